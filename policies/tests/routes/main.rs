//! The route tree from outside: tables of cases, every order of arrival, and random trees against a model.

mod big_value;
mod builder;
mod cases;
mod copies;
mod crowd;
mod explain;
mod failover;
mod fan_out;
mod hedge;
mod levels;
mod logged;
mod migrate;
mod model;
mod notation;
mod order;
mod order_of_children;
mod play;
mod pool;
mod races;
mod replicated;
mod selectors;
mod shadow;
mod table;
mod warm_up;
