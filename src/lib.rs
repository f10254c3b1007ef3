//! Gets a changed configuration file into every running service, safely, and knows that it arrived.
//!
//! A directory of documents is the source, a NATS JetStream Key-Value bucket carries them, and a process that holds a
//! [`live::Live`] swaps to each new value without a restart. The value in the bucket is the file's own bytes, so that
//! any NATS client reads it; where it came from is in the message's headers.
//!
//! # Code map
//! - pure, no async, no I/O, no clock: [`document`], [`diff`], [`schema`], [`signature`], [`secret`] (but for
//!   the randomness of new tokens)
//! - adapters, one outside system each: [`kv`] (NATS), [`source`] (a directory), [`checkout`] (git), [`server`] (a
//!   private nats-server), [`child`] (processes that do not outlive this one)
//! - engines, the long-running loops: [`loader`], [`live`], [`wait`]
//! - the binary: `main`, `cli`, `commands`, `output`
//!
//! # Rules
//! 1. Arrows point down: commands, engines, adapters; everything may use the pure modules, and modules of one layer do
//!    not know each other.
//! 2. `kv` alone imports `async_nats` and knows nothing of what a document says.
//! 3. `source` alone imports `notify`.
//! 4. Decisions are pure functions, loops are thin.
//! 5. The library never prints, reads no environment and never exits.
//! 6. A value is built and proven before it is swapped in; the old one serves until then, and on failure.
//! 7. A failed read is never an empty configuration, a missing file is never a delete unless it was asked for, and a
//!    delete is never an empty value.

pub mod checkout;
#[cfg(feature = "cli")]
pub mod child;
pub mod diff;
pub mod document;
pub mod kv;
pub mod live;
pub mod loader;
pub mod schema;
pub mod secret;
#[cfg(feature = "cli")]
pub mod server;
pub mod signature;
pub mod source;
pub mod wait;
