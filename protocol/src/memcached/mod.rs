//! The memcached dialects. Text today; meta and binary join as siblings without the request model changing.

pub mod text;
