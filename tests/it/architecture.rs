//! The house's plan, held against the code.
