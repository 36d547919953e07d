//! The route tree from outside: tables of cases, every order of arrival, and random trees against a model.

mod builder;
mod cases;
mod crowd;
mod explain;
mod model;
mod notation;
mod order;
mod play;
mod pool;
mod selectors;
mod table;
