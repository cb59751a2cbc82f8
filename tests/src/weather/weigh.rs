//! What requests to DynamoDB cost, in request units: the request is made to ask for it, and the answer says it.
//!
//! Amazon's emulator differs from what the service charges, and is corrected here: it counts transactions four times
//! instead of twice, and queries and keys that find nothing not at all.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>

use super::request::Seen;
use bytes::Bytes;
use serde_json::Value;

/// Request units of one answer or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    pub read: f64,
    pub write: f64,
}

/// The request, asking what it consumes. What is no JSON object is left as it is.
pub(super) fn asking(body: &Bytes) -> Bytes {
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut request)) => {
            request.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
            Value::Object(request).to_string().into()
        }
        Ok(_) | Err(_) => body.clone(),
    }
}

/// What the service charges for the answered request. An error's answer says nothing of it and counts nothing.
pub(super) fn units(seen: &Seen, answer: &Bytes) -> Units {
    let parse = |body: &Bytes| serde_json::from_slice::<Value>(body).unwrap_or_default();
    let Some(said) = parse(answer).get("ConsumedCapacity").map(said_units) else {
        return Units::default();
    };
    let request = parse(&seen.body);
    let read = |units| Units {
        read: units,
        write: 0.0,
    };
    match seen.operation.as_str() {
        "Query" | "Scan" => read(said.max(least(&request))),
        "BatchGetItem" => read(said.max(keys_least(&request))),
        "GetItem" | "TransactGetItems" => read(said),
        "TransactWriteItems" => Units {
            read: 0.0,
            write: said / 2.0,
        },
        _ => Units { read: 0.0, write: said },
    }
}

/// One capacity, or one for each table.
fn said_units(consumed: &Value) -> f64 {
    let one = |capacity: &Value| capacity.get("CapacityUnits").and_then(Value::as_f64);
    match consumed.as_array() {
        Some(tables) => tables.iter().filter_map(one).sum(),
        None => one(consumed).unwrap_or_default(),
    }
}

/// What a read of nothing costs.
fn least(request: &Value) -> f64 {
    match request.get("ConsistentRead").and_then(Value::as_bool) {
        Some(true) => 1.0,
        Some(false) | None => 0.5,
    }
}

fn keys_least(request: &Value) -> f64 {
    let tables = request.get("RequestItems").and_then(Value::as_object);
    let of_table = |table: &Value| {
        let keys = table.get("Keys").and_then(Value::as_array).map_or(0, Vec::len);
        least(table) * u32::try_from(keys).map_or(0.0, f64::from)
    };
    tables.map_or(0.0, |tables| tables.values().map(of_table).sum())
}
