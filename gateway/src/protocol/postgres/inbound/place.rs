//! Where and as whom a statement would run now, as the server says it.

use super::*;

/// The name of the gateway's own statements: a client's unnamed one is left alone.
const OWN_NAME: &[u8] = b"countersign";
/// A client's CancelRequest that comes late hits the gateway's question instead.
const PLACE_TRIES_MAX: usize = 3;
/// SHOW takes no snapshot, where a SELECT would keep the client from SET TRANSACTION afterwards.
const QUESTIONS: [&[u8]; 4] = [
    b"SHOW search_path",
    b"SHOW role",
    b"SHOW session_authorization",
    b"SHOW client_encoding",
];

impl<C: AsyncRead + Unpin> Inbound<C> {
    /// Asks the server for what the digest needs of the session's state, where it may have changed.
    pub(super) async fn refresh_place(&mut self) -> Result<(), End> {
        if self.shared.conversation().block == Block::None && self.block_changed_session && !self.place_is_stale {
            self.place_is_stale = true;
        }
        if !self.place_is_stale {
            return Ok(());
        }
        self.settle().await?;
        let (block, unsynced) = {
            let conversation = self.shared.conversation();
            (conversation.block, conversation.unsynced.any)
        };
        if block == Block::Failed || self.shared.conversation().is_skipping() {
            // Nothing but the end of the block can run, and that changes the place again.
            return Ok(());
        }
        let Some((place, encoding)) = self.ask_place(unsynced).await? else {
            return Ok(());
        };
        // Within a batch the server does not report the change, and reads the next text in the new encoding already.
        if encoding != "UTF8" {
            return Err(End::Refused(not_utf8()));
        }
        self.place = place;
        self.place_is_stale = false;
        // Inside a pipeline's implicit transaction an error would still change it back.
        if block == Block::None && !unsynced {
            self.block_changed_session = false;
        }
        Ok(())
    }

    /// The place and the encoding; none when the question itself was cancelled and took the client's block with it.
    async fn ask_place(&mut self, unsynced: bool) -> Result<Option<(Place, String)>, End> {
        for _ in 0..PLACE_TRIES_MAX {
            let (out, expected) = place_question(unsynced);
            self.own(&out, expected).await?;
            self.settle().await?;
            let rows = self.shared.conversation().take_own_rows();
            if let Some(answer) = self.read_place(rows) {
                return Ok(Some(answer));
            }
            if self.shared.conversation().block == Block::Failed {
                return Ok(None);
            }
        }
        Err(End::Refused(Refusal::new(
            Cause::Upstream,
            "countersign: the target's server did not say which search_path is in force",
        )))
    }

    /// Reads the rows that answer [`QUESTIONS`]: the place, and `client_encoding`.
    fn read_place(&self, rows: Vec<Bytes>) -> Option<(Place, String)> {
        let answers: Option<Vec<String>> = rows.into_iter().map(single_field).collect();
        let [search_path, role, user, encoding] = <[String; 4]>::try_from(answers?).ok()?;
        let place = Place {
            search_path,
            role: if role == "none" { user } else { role },
            ..self.place.clone()
        };
        Some((place, encoding))
    }
}

pub(super) fn write_parse(out: &mut BytesMut, text: &[u8]) {
    write_message(out, b'P', |out| {
        out.put_slice(OWN_NAME);
        out.put_u8(0);
        out.put_slice(text);
        out.put_u8(0);
        out.put_i16(0);
    });
}

/// The gateway's own questions, by names of its own, inside the client's transaction where one is open.
fn place_question(unsynced: bool) -> (BytesMut, Vec<Expected<Ticket>>) {
    let mut out = BytesMut::new();
    let mut expected = Vec::new();
    for text in QUESTIONS {
        write_question(&mut out, text);
        let own = [Own::Parse, Own::Bind, Own::Execute, Own::Close, Own::Close];
        expected.extend(own.into_iter().map(Expected::Own));
    }
    if unsynced {
        write_message(&mut out, b'H', |_| {});
    } else {
        write_message(&mut out, b'S', |_| {});
        expected.push(Expected::Own(Own::Sync));
    }
    (out, expected)
}

fn write_question(out: &mut BytesMut, text: &[u8]) {
    write_parse(out, text);
    write_message(out, b'B', |out| {
        for name in [OWN_NAME, OWN_NAME] {
            out.put_slice(name);
            out.put_u8(0);
        }
        out.put_slice(&[0; 6]);
    });
    write_message(out, b'E', |out| {
        out.put_slice(OWN_NAME);
        out.put_slice(&[0; 5]);
    });
    for kind in [b'P', b'S'] {
        write_message(out, b'C', |out| {
            out.put_u8(kind);
            out.put_slice(OWN_NAME);
            out.put_u8(0);
        });
    }
}

/// The one field of a row.
fn single_field(row: Bytes) -> Option<String> {
    let mut fields = Fields::over(b'D', row);
    if fields.count().ok()? != 1 {
        return None;
    }
    String::from_utf8(fields.value().ok()??.to_vec()).ok()
}

/// Whether names of built-in functions and operators may mean something else. `pg_catalog` is searched first unless
/// the path names it at a later place.
pub(super) fn hides_pg_catalog(search_path: &str) -> bool {
    let mut schemas = search_path.split(',').map(|schema| schema.trim().trim_matches('"'));
    schemas
        .position(|schema| schema == "pg_catalog")
        .is_some_and(|at| at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pg_catalog_behind_others_hides_built_in_names() {
        for (path, hides) in [
            ("\"$user\", public", false),
            ("", false),
            ("pg_catalog", false),
            ("pg_catalog, app", false),
            ("app, pg_catalog", true),
            ("app,\"pg_catalog\"", true),
        ] {
            assert_eq!(hides_pg_catalog(path), hides, "{path}");
        }
    }
}
