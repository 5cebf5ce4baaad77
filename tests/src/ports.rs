//! Free loopback ports, for processes that must be told a number before they can bind it.

use anyhow::{Context as _, Result, bail};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range that Linux hands out to outgoing connections, which would otherwise take a
/// port between its choice and its use.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// A TCP port that is this value's alone while it lives.
///
/// The claim is a bound UDP socket of the same number: it keeps every other harness away, in this
/// process or another, yet leaves TCP to whoever was given the port, across restarts.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// Claims a free port.
    ///
    /// # Errors
    ///
    /// When none is left.
    pub fn claim() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes start at different places, so that they seldom contend.
        let start = (process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + ((u32::from(start) + u32::from(step)) % u32::from(COUNT)) as u16;
            let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            // Someone who does not claim may listen there all the same.
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// Claims one particular port, for a demonstration at the addresses that documents name.
    ///
    /// # Errors
    ///
    /// When it is taken.
    pub fn exactly(number: u16) -> Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, number);
        let claim = UdpSocket::bind(address).with_context(|| format!("port {number} is claimed"))?;
        TcpListener::bind(address).with_context(|| format!("port {number} is in use"))?;
        Ok(Self { number, _claim: claim })
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// Replaces port numbers in a configuration written for the defaults, all at once, so that a new
/// number is never mistaken for another's default.
///
/// # Errors
///
/// When a default does not occur: the test would then run against something else.
pub fn substitute(text: &str, ports: &[(u16, u16)]) -> Result<String> {
    let mut seen = vec![false; ports.len()];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, digits) = rest.split_at(start);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (number, after) = digits.split_at(end);
        out.push_str(before);
        match ports.iter().position(|(default, _)| number == default.to_string()) {
            Some(at) => {
                seen[at] = true;
                out.push_str(&ports[at].1.to_string());
            }
            None => out.push_str(number),
        }
        rest = after;
    }
    out.push_str(rest);
    let missing = seen.iter().position(|seen| !seen).map(|at| ports[at].0);
    missing
        .map_or(Ok(out), |port| Err(anyhow::anyhow!("port {port} does not occur")))
        .context("substituting ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_nobody_elses() {
        let ports: Vec<Port> = (0..100).map(|_| Port::claim().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 100);
        assert!(UdpSocket::bind(ports[0].address()).is_err(), "the claim is held");
        assert!(Port::exactly(ports[0].number()).is_err(), "and cannot be had twice");
        let user = TcpListener::bind(ports[0].address()).expect("it leaves TCP free");

        let taken = user.local_addr().unwrap().port();
        drop(ports);
        assert!(Port::exactly(taken).is_err(), "someone listens there");
        drop(user);
        assert_eq!(Port::exactly(taken).unwrap().number(), taken);
    }

    #[test]
    fn ports_are_replaced_whole_and_once() {
        let text = "a: 10000\nb: { port_value: 8081 }\nc: 100001, 80810";
        let out = substitute(text, &[(10_000, 8081), (8081, 9)]).unwrap();
        assert_eq!(out, "a: 8081\nb: { port_value: 9 }\nc: 100001, 80810");
        assert!(substitute(text, &[(9901, 1)]).is_err());
    }
}
