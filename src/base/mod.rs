//! Values without behaviour towards the world: addresses, units, time, reasons.

pub mod addr;
pub mod reason;
pub mod rng;
pub mod secret;
pub mod time;
pub mod unit;
