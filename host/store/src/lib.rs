//! Where OmniQ keeps tasks, results, events and modules.
