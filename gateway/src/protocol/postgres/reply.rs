//! What a PostgreSQL client is told: errors and notices. Every refusal is worded into the protocol here.
//!
//! <https://www.postgresql.org/docs/current/protocol-error-fields.html>

use super::effects::Unparseable;
use super::wire::write_message;
use crate::refusal::{Cause, Refusal};
use bytes::{BufMut, BytesMut};
use countersign_infra::domain::approval::Approval;

/// How far an error reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The connection goes on.
    Error,
    /// The connection ends.
    Fatal,
}

/// The SQLSTATE of a refusal.
pub fn sqlstate(cause: Cause) -> &'static str {
    match cause {
        Cause::Denied | Cause::Expired | Cause::Revoked => "42501",
        Cause::Withdrawn => "57014",
        Cause::SignIn => "28P01",
        Cause::UnknownTarget => "3D000",
        Cause::Protocol => "08P01",
        Cause::Syntax => "42601",
        Cause::Encoding => "22021",
        Cause::Limit => "54000",
        Cause::TooMany => "53300",
        Cause::FailedTransaction => "25P02",
        Cause::Upstream => "08006",
        Cause::Unready => "58000",
        Cause::Ended => "57P01",
    }
}

/// Appends an ErrorResponse.
pub fn error(out: &mut BytesMut, severity: Severity, refusal: &Refusal) {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let detail = match (&refusal.detail, &refusal.approval) {
        (Some(detail), Some(id)) => Some(format!("{detail}\nApproval {id}.")),
        (None, Some(id)) => Some(format!("Approval {id}.")),
        (detail, None) => detail.clone(),
    };
    fields(
        out,
        b'E',
        severity,
        sqlstate(refusal.cause),
        &refusal.message,
        detail.as_deref(),
        refusal.hint.as_deref(),
    );
}

/// Appends a NoticeResponse of severity NOTICE.
pub fn notice(out: &mut BytesMut, message: &str, detail: Option<&str>, hint: Option<&str>) {
    fields(out, b'N', "NOTICE", "00000", message, detail, hint);
}

/// Appends the notice that an operation waits for people.
pub fn held(out: &mut BytesMut, record: &Approval, url: &str, first: bool) {
    let id = &record.id;
    let message = if first {
        format!("countersign: held for approval {id}: waits for {}", waits_for(record))
    } else {
        format!("countersign: approval {id} still waits: {}", record.quorum_state())
    };
    let mut detail = format!(
        "It would {} on {}.",
        record.operation.effects.in_words(),
        record.place.target
    );
    if record.operation.in_transaction {
        detail.push_str(" It waits inside a transaction, whose locks stay until then.");
    }
    for reason in &record.terms.reasons {
        detail.push_str(&format!(" Rule: {reason}."));
    }
    let left = (record.deadline - chrono::Utc::now()).num_seconds().max(0);
    let hint = format!(
        "Decide at {url} or with: countersign approvals approve {id}. It expires in {}; Ctrl-C withdraws it.",
        roughly(left)
    );
    notice(out, &message, Some(&detail), Some(&hint));
}

/// `9 s`, `2 min`, `3 h`: rounded, as a person says it.
fn roughly(seconds: i64) -> String {
    if seconds < 120 {
        format!("{seconds} s")
    } else if seconds < 7200 {
        format!("{} min", (seconds + 30) / 60)
    } else {
        format!("{} h", (seconds + 1800) / 3600)
    }
}

/// `1 of dba; 2 of security or admins`: each group's strictest demand once.
fn waits_for(record: &Approval) -> String {
    let mut demands: Vec<(String, u32)> = Vec::new();
    for clause in &record.terms.clauses {
        let groups = clause.approvers.join(" or ");
        match demands.iter_mut().find(|(known, _)| *known == groups) {
            Some((_, quorum)) => *quorum = clause.quorum.max(*quorum),
            None => demands.push((groups, clause.quorum)),
        }
    }
    let demands = demands.iter().map(|(groups, quorum)| format!("{quorum} of {groups}"));
    demands.collect::<Vec<_>>().join("; ")
}

/// Words a text that the parser does not take, as the server would.
pub fn unparseable(unparseable: &Unparseable) -> Refusal {
    let cause = match unparseable.sqlstate {
        "22021" => Cause::Encoding,
        "54000" | "54001" => Cause::Limit,
        _ => Cause::Syntax,
    };
    let refusal = Refusal::new(cause, unparseable.message.clone());
    match &unparseable.hint {
        Some(hint) => refusal.hint(hint.clone()),
        None => refusal,
    }
}

/// Appends ReadyForQuery with the transaction status `I`, `T` or `E`.
pub fn ready(out: &mut BytesMut, status: u8) {
    write_message(out, b'Z', |out| out.put_u8(status));
}

fn fields(
    out: &mut BytesMut,
    tag: u8,
    severity: &str,
    code: &str,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) {
    write_message(out, tag, |out| {
        field(out, b'S', severity);
        field(out, b'V', severity);
        field(out, b'C', code);
        field(out, b'M', message);
        if let Some(detail) = detail {
            field(out, b'D', detail);
        }
        if let Some(hint) = hint {
            field(out, b'H', hint);
        }
        out.put_u8(0);
    });
}

fn field(out: &mut BytesMut, code: u8, text: &str) {
    out.put_u8(code);
    // A NUL would end the field early and let the rest pass for other fields.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_in_a_message_does_not_make_a_field_of_its_own() {
        let mut out = BytesMut::new();
        error(&mut out, Severity::Error, &Refusal::new(Cause::Denied, "no\0CXXXXX"));
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.contains("MnoCXXXXX\0"), "{text:?}");
        assert!(text.contains("C42501\0"), "{text:?}");
    }
}
