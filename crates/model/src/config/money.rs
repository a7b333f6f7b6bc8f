//! Amounts of money in the configuration file.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// US dollars, exact to a millionth. Read from a decimal string, an integer or a float: a float
/// is taken as the decimal it was written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(u64);

/// The text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of US dollars with at most six decimals, from 0 to 1000000")]
pub struct NotUsd;

/// The greatest amount, one million dollars, in micro-USD: keeps every product of a price and a
/// token count inside 128 bits.
const MAX_MICROS: u64 = 1_000_000_000_000;

impl Usd {
    /// From millionths of a dollar.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }
    /// Millionths of a dollar.
    pub const fn micros(self) -> u64 {
        self.0
    }
}

impl FromStr for Usd {
    type Err = NotUsd;
    fn from_str(text: &str) -> Result<Self, NotUsd> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || 6 < fraction.len() {
            return Err(NotUsd);
        }
        let whole: u64 = whole.parse().map_err(|_| NotUsd)?;
        let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| NotUsd)?;
        whole
            .checked_mul(1_000_000)
            .and_then(|m| m.checked_add(fraction))
            .filter(|m| *m <= MAX_MICROS)
            .map(Self)
            .ok_or(NotUsd)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Usd;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("US dollars, for example \"0.30\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Usd, E> {
                n.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Usd, E> {
                n.to_string().parse().map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Usd, E> {
                // `Display` gives the shortest decimal that reads back as this float: what was
                // written, for any amount with six decimals.
                n.to_string().parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Amount)
    }
}
