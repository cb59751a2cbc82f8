//! Who has read the whole of which operation, as the journal tells it.

use super::{Journal, JournalError, JournalQuery};
use crate::domain::approval::Approval;
use crate::domain::id::ApprovalId;
use crate::domain::identity::PersonKey;
use chrono::TimeDelta;

/// Pages of the journal that are looked through for one reading.
const PAGES_MAX: usize = 10;
/// Clocks of gateways differ by less.
const CLOCK_MARGIN: TimeDelta = TimeDelta::seconds(60);

/// One reading, as it is journaled.
pub struct Reading<'a> {
    pub approval: &'a ApprovalId,
    /// With the exact parts.
    pub exact: bool,
    /// The text was the one that the approval's record shows the beginning of.
    pub as_asked: bool,
}

impl Reading<'_> {
    /// The words of the journal. They are read back: two readings differ in them.
    pub fn in_words(&self) -> String {
        let what = if self.exact { "exact parts" } else { "whole text" };
        let otherwise = if self.as_asked {
            ""
        } else {
            ", shown otherwise than asked"
        };
        format!("{}, {what}{otherwise}", about(self.approval))
    }
}

fn about(approval: &ApprovalId) -> String {
    format!("operation of approval {approval}")
}

/// Whether the journal says that the whole of what is held was shown to this person.
pub async fn has_read_whole(
    journal: &dyn Journal,
    reader: &PersonKey,
    approval: &Approval,
) -> Result<bool, JournalError> {
    let words = [false, true].map(|exact| {
        let reading = Reading {
            approval: &approval.id,
            exact,
            as_asked: true,
        };
        reading.in_words()
    });
    let mut query = JournalQuery {
        who: Some(reader.subject.clone()),
        since: Some(approval.created - CLOCK_MARGIN),
        events: vec!["audit_queried".to_owned()],
        text: Some(about(&approval.id)),
        ..JournalQuery::default()
    };
    for _ in 0..PAGES_MAX {
        let page = journal.search(&query).await?;
        let found = page.events.iter().any(|event| {
            let said = event.what.words();
            event.person.as_ref() == Some(reader) && words.iter().any(|words| said == [words.as_str()])
        });
        if found || page.next.is_none() {
            return Ok(found);
        }
        query.after = page.next;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_names_the_approval_and_whether_it_was_exact() {
        let words = |exact, as_asked| {
            let approval = &ApprovalId::from_random([0; 5]);
            Reading {
                approval,
                exact,
                as_asked,
            }
            .in_words()
        };
        assert_eq!(words(false, true), "operation of approval 00000000, whole text");
        assert_eq!(words(true, true), "operation of approval 00000000, exact parts");
        let other = "operation of approval 00000000, whole text, shown otherwise than asked";
        assert_eq!(words(false, false), other);
    }
}
