//! What a plane's link does to those who should not speak to it, or speak as they should not: each is refused with a reason,
//! the identity that was presented is on record, and good peers are served on.

mod conversation;
mod decoders;
mod frames;
mod identity;
mod limits;
mod rotation;
mod world;
