//! What counts as one place on the network: limits for an address are of no use where somebody has as many as they like.

use std::net::{IpAddr, Ipv6Addr};

/// Where an address belongs: an IPv4 address is a place of its own, and so is a /64 of IPv6, as one machine or household has it.
pub(super) fn place_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_64_bits_is_one_place() {
        let place = |text: &str| place_of(text.parse().unwrap()).to_string();
        assert_eq!(place("192.0.2.7"), "192.0.2.7");
        assert_eq!(place("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(place("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(place("2001:db8:1:2::1"), place("2001:db8:1:2:ffff::9"));
        assert_ne!(place("2001:db8:1:3::1"), place("2001:db8:1:2::1"));
    }
}
