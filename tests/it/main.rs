//! The integration tests: the library and the binary against real servers. One binary, so that it links once and its
//! tests share a server.
#![allow(clippy::unwrap_used)]

mod acl;
mod clients;
mod compose;
mod concept;
mod database;
mod demo_edit;
mod dev;
mod doctor;
mod editors;
mod faults;
mod feed;
mod files;
mod flood;
mod fuzz;
mod group;
mod guards;
mod help;
mod hostile;
mod inspect;
mod interop;
mod journal;
mod kv;
mod live;
mod loader;
mod outages;
mod outside;
mod point_in_time;
mod presence;
mod provenance;
mod rollback;
mod schemas;
mod secrets;
mod serve;
mod server;
mod sets;
mod signatures;
mod signing;
mod status;
mod support;
mod tidy;
mod wait;
mod ways_in;
