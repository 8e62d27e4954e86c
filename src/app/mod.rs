//! The composition root: a checked configuration becomes running parts.
