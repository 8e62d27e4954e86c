//! The smuggling corpus: one line per attack or near miss, with the rule that decides it.
