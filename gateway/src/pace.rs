//! How often something may be begun that anybody can begin, and that leaves something in a store.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many within so long, of all and of each address.
pub struct Pace {
    max: usize,
    of_one_max: usize,
    within: Duration,
    begun: Mutex<Begun>,
}

#[derive(Default)]
struct Begun {
    /// Oldest first.
    all: VecDeque<(Instant, Block)>,
    of: HashMap<Block, usize>,
}

/// An address as it is given out: of IPv6 a customer has a block of 64 bits (RFC 6177).
type Block = IpAddr;

impl Pace {
    /// `max` within that time, and of one address no more than `of_one_max`.
    pub fn new(max: usize, of_one_max: usize, within: Duration) -> Self {
        Self {
            max,
            of_one_max,
            within,
            begun: Mutex::default(),
        }
    }

    /// Whether one more may begin now; it then counts.
    pub fn allows(&self, address: IpAddr, now: Instant) -> bool {
        let block = block(address);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.forget(|at| now.duration_since(at) >= self.within);
        let of_one = begun.of.get(&block).copied().unwrap_or_default();
        let is_room = begun.all.len() < self.max && of_one < self.of_one_max;
        if is_room {
            begun.all.push_back((now, block));
            begun.of.insert(block, of_one + 1);
        }
        is_room
    }
}

impl Begun {
    fn forget(&mut self, is_over: impl Fn(Instant) -> bool) {
        while let Some((_, block)) = self.all.pop_front_if(|(at, _)| is_over(*at)) {
            let of_one = self.of.get(&block).copied().unwrap_or_default();
            match of_one {
                0 | 1 => self.of.remove(&block),
                more => self.of.insert(block, more - 1),
            };
        }
    }
}

fn block(address: IpAddr) -> Block {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_so_many_begin_within_the_time() {
        let (pace, now) = (Pace::new(3, 3, Duration::from_secs(60)), Instant::now());
        let one = address("192.0.2.1");
        assert!((0..3).all(|second| pace.allows(one, now + Duration::from_secs(second))));
        assert!(!pace.allows(address("192.0.2.2"), now + Duration::from_secs(59)));
        assert!(pace.allows(one, now + Duration::from_secs(60)));
        assert!(!pace.allows(one, now + Duration::from_secs(60)));
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let (pace, now) = (Pace::new(10, 2, Duration::from_secs(60)), Instant::now());
        let blocks = [
            ["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"],
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"],
        ];
        for same in blocks {
            let allowed = same.map(|text| pace.allows(address(text), now));
            assert_eq!(allowed, [true, true, false], "{same:?}");
        }
        assert!(pace.allows(address("192.0.2.2"), now));
        assert!(pace.allows(address("2001:db8:0:1::1"), now));
        assert!(pace.allows(address("192.0.2.1"), now + Duration::from_secs(60)));
        assert!(pace.begun.lock().unwrap().of.len() == 1);
    }
}
