//! What counted requests cost: list prices of us-east-1 without free tier, storage and traffic.

use crate::weather::{Service, Tally};
use std::collections::BTreeMap;

/// On demand, of a table of class Standard; since 2024-11-01. <https://aws.amazon.com/dynamodb/pricing/on-demand/>
const DOLLARS_PER_WRITE_UNIT: f64 = 0.625 / 1e6;
const DOLLARS_PER_READ_UNIT: f64 = 0.125 / 1e6;
/// S3 Standard, as of 2026-02: PUT, COPY, POST and LIST; GET and all others. <https://aws.amazon.com/s3/pricing/>
const DOLLARS_PER_S3_WRITE: f64 = 0.005 / 1e3;
const DOLLARS_PER_S3_READ: f64 = 0.0004 / 1e3;
/// Beside a dollar a month for the key. <https://aws.amazon.com/kms/pricing/>
const DOLLARS_PER_KMS_REQUEST: f64 = 0.03 / 1e4;

pub const SOURCE: &str = "Prices: us-east-1 list prices (DynamoDB on demand since 2024-11-01: $0.625 per million write \
    units, $0.125 per million read units; S3 Standard: $0.005 per 1,000 PUT, $0.0004 per 1,000 GET; KMS: $0.03 per \
    10,000), requests only. Units: the emulator's, with transactions at twice a plain write, indexes included, and \
    reads of nothing at the least that is charged. The test key source is KMS.";

/// Requests, by operation, and what they cost; of one thing, or the mean of several.
#[derive(Clone, Debug, Default)]
pub struct Bill {
    requests: BTreeMap<(Service, String), f64>,
    read_units: f64,
    write_units: f64,
}

impl Bill {
    pub fn of(tallies: &BTreeMap<(Service, String), Tally>) -> Self {
        let requests = tallies.iter().map(|(operation, tally)| {
            let requests = u32::try_from(tally.requests).map_or(f64::INFINITY, f64::from);
            (operation.clone(), requests)
        });
        Self {
            requests: requests.collect(),
            read_units: tallies.values().map(|tally| tally.units.read).sum(),
            write_units: tallies.values().map(|tally| tally.units.write).sum(),
        }
    }

    /// So many times this.
    pub fn times(&self, factor: f64) -> Self {
        let mut bill = self.clone();
        bill.requests.values_mut().for_each(|requests| *requests *= factor);
        bill.read_units *= factor;
        bill.write_units *= factor;
        bill
    }

    /// This and that together.
    pub fn plus(&self, other: &Self) -> Self {
        let mut bill = self.clone();
        for (operation, requests) in &other.requests {
            *bill.requests.entry(operation.clone()).or_default() += requests;
        }
        bill.read_units += other.read_units;
        bill.write_units += other.write_units;
        bill
    }

    /// This without that: what is left over is at least nothing.
    pub fn without(&self, other: &Self) -> Self {
        let mut bill = self.plus(&other.times(-1.0));
        bill.requests
            .values_mut()
            .for_each(|requests| *requests = requests.max(0.0));
        bill.read_units = bill.read_units.max(0.0);
        bill.write_units = bill.write_units.max(0.0);
        bill
    }

    pub fn requests(&self, service: Service) -> f64 {
        let of_service = self.requests.iter().filter(|((of, _), _)| *of == service);
        of_service.map(|(_, requests)| requests).sum()
    }

    pub fn all_requests(&self) -> f64 {
        // The sum of nothing is -0.
        self.requests.values().sum::<f64>() + 0.0
    }

    pub fn dollars(&self) -> f64 {
        let asked = self.requests.iter().map(|((service, operation), requests)| {
            let dollars = match service {
                Service::S3
                    if ["Put", "Copy", "Post", "List"]
                        .iter()
                        .any(|verb| operation.starts_with(verb)) =>
                {
                    DOLLARS_PER_S3_WRITE
                }
                Service::S3 => DOLLARS_PER_S3_READ,
                Service::Kms => DOLLARS_PER_KMS_REQUEST,
                // Units are charged, not requests.
                Service::DynamoDb | Service::Other => 0.0,
            };
            requests * dollars
        });
        asked.sum::<f64>() + self.read_units * DOLLARS_PER_READ_UNIT + self.write_units * DOLLARS_PER_WRITE_UNIT
    }

    /// The cells of a table's row: requests, units, dollars, by operation.
    pub fn cells(&self) -> [String; 6] {
        let operations = self.requests.iter().filter(|(_, requests)| **requests > 0.0);
        let operations = operations.map(|((_, operation), requests)| format!("{operation} {}", brief(*requests)));
        [
            brief(self.requests(Service::DynamoDb)),
            brief(self.read_units),
            brief(self.write_units),
            format!(
                "{} / {}",
                brief(self.requests(Service::S3)),
                brief(self.requests(Service::Kms))
            ),
            format!("${}", dollars(self.dollars())),
            operations.collect::<Vec<_>>().join(", "),
        ]
    }
}

/// Whole where it is large, with as much behind the point as says something where it is small.
fn brief(number: f64) -> String {
    // The sum of nothing is -0.
    let number = number + 0.0;
    let text = match number {
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn dollars(dollars: f64) -> String {
    let dollars = dollars + 0.0;
    if dollars == 0.0 || dollars >= 0.01 {
        format!("{dollars:.2}")
    } else {
        format!("{dollars:.7}")
    }
}
