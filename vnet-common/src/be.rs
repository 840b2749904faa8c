//! Integers as they stand on the wire.

/// A 16-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Be16(u16);

/// A 32-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Be32(u32);

macro_rules! big_endian {
    ($name:ident, $int:ty, $size:literal) => {
        impl $name {
            /// From the host's representation.
            #[inline(always)]
            #[must_use]
            pub const fn new(value: $int) -> Self {
                Self(value.to_be())
            }

            /// From the bytes of a packet.
            #[inline(always)]
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(<$int>::from_ne_bytes(bytes))
            }

            /// As the bytes of a packet.
            #[inline(always)]
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $size] {
                self.0.to_ne_bytes()
            }

            /// The same bits, read as if they were in the host's order: as the kernel keeps them in its own fields.
            #[inline(always)]
            #[must_use]
            pub const fn to_ne(self) -> $int {
                self.0
            }

            /// The value in the host's representation.
            #[inline(always)]
            #[must_use]
            pub const fn get(self) -> $int {
                <$int>::from_be(self.0)
            }
        }
    };
}
big_endian!(Be16, u16, 2);
big_endian!(Be32, u32, 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_in_network_order() {
        assert_eq!(Be16::new(0x1234).to_bytes(), [0x12, 0x34]);
        assert_eq!(Be32::from_bytes([1, 2, 3, 4]).get(), 0x0102_0304);
    }
}
