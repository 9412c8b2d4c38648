//! Small input that costs much memory, time or stack.
