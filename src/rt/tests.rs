//! Tests of the loop itself.

use super::*;

#[test]
fn empty() {
    Runtime::new(Config::default()).unwrap().block_on(async {});
}
