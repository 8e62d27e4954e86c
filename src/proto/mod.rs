//! Protocol machines without I/O: bytes to values and back.
//!
//! Nothing here reads a socket, a clock or a random number; hostile bytes can neither panic nor
//! make the work per byte grow.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unreachable
    )
)]

pub mod control;
pub mod head;
pub mod http1;
