//! Where and as whom a statement would run now, as the server says it.

use super::*;

/// The name of the gateway's own statements: a client's unnamed one is left alone.
const OWN_NAME: &[u8] = b"countersign";
const PLACE_TEXT: &[u8] =
    b"SELECT pg_catalog.current_setting('search_path'), current_user::pg_catalog.text, pg_catalog.current_database()::pg_catalog.text";

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
        if block == Block::Failed {
            // Nothing but the end of the block can run, and that changes the place again.
            return Ok(());
        }
        let (out, expected) = ask_place(unsynced);
        self.own(&out, expected).await?;
        self.settle().await?;
        let row = self.shared.conversation().take_own_row();
        let Some(place) = row.and_then(|row| read_place(&self.place.target, row)) else {
            return Err(End::Refused(Refusal::new(
                Cause::Upstream,
                "countersign: the target's server did not say which search_path is in force",
            )));
        };
        self.place = place;
        self.place_is_stale = false;
        if block == Block::None {
            self.block_changed_session = false;
        }
        Ok(())
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

/// The gateway's own question, by names of its own, inside the client's transaction where one is open.
fn ask_place(unsynced: bool) -> (BytesMut, Vec<Expected<Ticket>>) {
    let mut out = BytesMut::new();
    write_parse(&mut out, PLACE_TEXT);
    write_message(&mut out, b'B', |out| {
        for name in [OWN_NAME, OWN_NAME] {
            out.put_slice(name);
            out.put_u8(0);
        }
        out.put_slice(&[0; 6]);
    });
    write_message(&mut out, b'E', |out| {
        out.put_slice(OWN_NAME);
        out.put_slice(&[0; 5]);
    });
    for kind in [b'P', b'S'] {
        write_message(&mut out, b'C', |out| {
            out.put_u8(kind);
            out.put_slice(OWN_NAME);
            out.put_u8(0);
        });
    }
    let own = [Own::Parse, Own::Bind, Own::Execute, Own::Close, Own::Close];
    let mut expected: Vec<_> = own.into_iter().map(Expected::Own).collect();
    if unsynced {
        write_message(&mut out, b'H', |_| {});
    } else {
        write_message(&mut out, b'S', |_| {});
        expected.push(Expected::Own(Own::Sync));
    }
    (out, expected)
}

/// Reads the row that answers [`ask_place`].
fn read_place(target: &str, row: Bytes) -> Option<Place> {
    let mut fields = Fields::over(b'D', row);
    if fields.count().ok()? != 3 {
        return None;
    }
    let mut text = || String::from_utf8(fields.value().ok()??.to_vec()).ok();
    let (search_path, role, database) = (text()?, text()?, text()?);
    Some(Place {
        target: target.to_owned(),
        database,
        role,
        search_path,
    })
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
