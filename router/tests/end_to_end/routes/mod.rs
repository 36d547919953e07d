//! The routes, one case each with real servers.

mod selectors;
