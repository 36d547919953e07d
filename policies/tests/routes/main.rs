//! The route tree from outside: tables of cases, every order of arrival, and random trees against a model.

mod builder;
mod cases;
mod crowd;
mod explain;
mod failover;
mod fan_out;
mod hedge;
mod model;
mod notation;
mod order;
mod order_of_children;
mod play;
mod pool;
mod replicated;
mod selectors;
mod table;
