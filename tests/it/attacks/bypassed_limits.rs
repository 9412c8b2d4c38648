//! Values that pass a check although it was written to reject them.
