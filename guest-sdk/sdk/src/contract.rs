//! Between the types of this crate and those of the bindings.
//!
//! A trait of its own and not [`From`]: every error converts into a [`Failure`](crate::Failure), and the bindings' own
//! failure is an error, too.

/// A type that `omniq:task/types` has as well.
pub trait Contract {
    /// The type of the bindings.
    type Wit;

    fn from_wit(wit: Self::Wit) -> Self;
    fn into_wit(self) -> Self::Wit;
}

/// From the bindings.
pub fn from_wit<T: Contract>(wit: T::Wit) -> T {
    T::from_wit(wit)
}

/// To the bindings.
pub fn into_wit<T: Contract>(value: T) -> T::Wit {
    value.into_wit()
}
