//! One small program per way of composing ops.
