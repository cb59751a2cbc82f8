//! The password `web`: the client waits on its connection until its person has signed in by a browser.
//!
//! The client is told a link and a code. Whoever opens the link, on any gateway of the store, signs in and types the
//! code; so a link that is sent to somebody else signs in nobody. Nothing is dialled before.

use super::reply;
use super::startup::{ClientReader, ClientWriter};
use super::wire::write_message;
use crate::pace::Pace;
use crate::refusal::{Cause, Refusal};
use bytes::{BufMut, BytesMut};
use chrono::Utc;
use countersign_infra::domain::identity::SignedIn;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{ConnectAnswer, ConnectCode, ConnectWeb, Purpose, Ticket};
use countersign_infra::tickets::{TicketError, TicketStore};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

/// What a client sends as its password.
pub const PASSWORD: &str = "web";
/// How long a client waits for its person.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How often the store is asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Clients that wait at once, of one address and in all: anybody can begin to wait.
const OF_ONE_ADDRESS_MAX: usize = 10;
const IN_ALL_MAX: usize = 200;
/// Waits that begin within [`PACE_WITHIN`], at this gateway.
const BEGUN_MAX: usize = 1000;
/// Of those, of one address.
const BEGUN_OF_ONE_MAX: usize = 200;
const PACE_WITHIN: Duration = Duration::from_secs(600);
/// What a client may send before it is answered.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// The clients that wait.
pub struct WebSignIns {
    tickets: Arc<dyn TicketStore>,
    /// Where the pages are; none when nobody can sign in there.
    pages: Option<Url>,
    waiting: Mutex<HashMap<IpAddr, usize>>,
    pace: Pace,
    wait_max: Duration,
}

/// Why a client waits no more without its person.
#[derive(Debug)]
pub enum NoPerson {
    /// It did not begin to wait: anybody can bring that about, as often as they like.
    TurnedAway(Refusal),
    Refused(Refusal),
    /// It left.
    Gone(io::Error),
}

impl From<Refusal> for NoPerson {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for NoPerson {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Counts one client that waits.
struct Place<'a> {
    sign_ins: &'a WebSignIns,
    address: IpAddr,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.sign_ins.waiting();
        if let Some(count) = waiting.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.address);
            }
        }
    }
}

impl WebSignIns {
    pub fn new(tickets: Arc<dyn TicketStore>, pages: Option<Url>) -> Self {
        let waiting = Mutex::default();
        Self {
            tickets,
            pages,
            waiting,
            pace: Pace::new(BEGUN_MAX, BEGUN_OF_ONE_MAX, PACE_WITHIN),
            wait_max: WAIT_MAX,
        }
    }

    /// Waits for the person of a client, at most [`WAIT_MAX`]. When it returns, the client has been told that it is
    /// authenticated, whatever the answer.
    pub async fn sign_in(
        &self,
        mut wish: ConnectWeb,
        address: SocketAddr,
        client: (&mut ClientReader, &mut ClientWriter),
        stop: &CancellationToken,
    ) -> Result<SignedIn, NoPerson> {
        let Some(pages) = &self.pages else {
            return Err(NoPerson::TurnedAway(no_pages()));
        };
        let _place = self.place(address.ip().to_canonical()).map_err(NoPerson::TurnedAway)?;
        let (random, code) = random()?;
        let (secret, mut ticket) = Ticket::new(random, Purpose::ConnectWeb(wish.clone()), Utc::now(), self.wait_max);
        wish.code = code.digest(&secret);
        ticket.purpose = Purpose::ConnectWeb(wish);
        self.tickets.create(&ticket).await.map_err(unavailable)?;
        let (reader, writer) = client;
        tell(writer, pages, &secret, &code).await?;
        let answered = self.answered(&ticket, reader, stop).await;
        self.settle(&ticket, answered).await
    }

    fn place(&self, address: IpAddr) -> Result<Place<'_>, Refusal> {
        let mut waiting = self.waiting();
        let in_all: usize = waiting.values().sum();
        let of_address = waiting.get(&address).copied().unwrap_or_default();
        let is_room = of_address < OF_ONE_ADDRESS_MAX && in_all < IN_ALL_MAX;
        if !is_room || !self.pace.allows(address, std::time::Instant::now()) {
            let refusal = Refusal::new(Cause::TooMany, "countersign: too many connections wait for a sign-in");
            return Err(
                refusal.hint("Finish those that wait, or end them: each ends by itself within 2 min. Then try again.")
            );
        }
        waiting.insert(address, of_address + 1);
        Ok(Place {
            sign_ins: self,
            address,
        })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after the ticket until it has an answer. Gives the ticket as it is then.
    async fn answered(
        &self,
        ticket: &Ticket,
        reader: &mut ClientReader,
        stop: &CancellationToken,
    ) -> Result<Ticket, NoPerson> {
        let until = Instant::now() + self.wait_max;
        while Instant::now() < until {
            // Each arm may be dropped midway.
            tokio::select! {
                gone = reader.closed(READ_AHEAD_BYTES_MAX) => {
                    let gone = gone.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Err(gone.into());
                }
                () = stop.cancelled() => return Err(stopping().into()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match self.tickets.read(ticket.id).await {
                Ok(Some(now)) if now != *ticket && has_answer(&now) => return Ok(now),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => tracing::warn!(%error, "the ticket of a client that waits could not be read"),
            }
        }
        Err(too_late().into())
    }

    /// Takes the ticket out of the store, for whatever end. Only whoever takes an answer may go on with it.
    async fn settle(&self, first: &Ticket, answered: Result<Ticket, NoPerson>) -> Result<SignedIn, NoPerson> {
        let ticket = match answered {
            Ok(ticket) => ticket,
            Err(no_person) => {
                self.withdraw(first).await;
                return Err(no_person);
            }
        };
        self.tickets.take(&ticket).await.map_err(unavailable)?;
        match answer(&ticket) {
            Some(ConnectAnswer::Person { person, until }) => Ok(SignedIn {
                person: person.clone(),
                expires: *until,
                issued: None,
            }),
            Some(ConnectAnswer::Refused { why }) => {
                Err(Refusal::new(Cause::SignIn, format!("countersign: the sign-in was refused: {why}")).into())
            }
            Some(ConnectAnswer::None) | None => Err(too_late().into()),
        }
    }

    /// Nobody waits any more: the page says so, too.
    async fn withdraw(&self, ticket: &Ticket) {
        let mut current = Some(ticket.clone());
        while let Some(ticket) = current.take() {
            match self.tickets.take(&ticket).await {
                Ok(()) => {}
                Err(TicketError::Conflict { current: changed }) => current = changed.map(|changed| *changed),
                Err(error @ (TicketError::Damaged { .. } | TicketError::Unavailable { .. })) => {
                    tracing::warn!(%error, "the ticket of a client that left stays until its time is over");
                }
            }
        }
    }
}

/// AuthenticationOk, then the notice: before it, a notice breaks libpq and pgjdbc.
async fn tell(writer: &mut ClientWriter, pages: &Url, secret: &Secret, code: &ConnectCode) -> io::Result<()> {
    let mut out = BytesMut::new();
    write_message(&mut out, b'R', |out| out.put_i32(0));
    let pages = pages.as_str().trim_end_matches('/');
    let detail = format!(
        "Open {pages}/connect/{} and type the code {} there.",
        secret.reveal(),
        code.shown()
    );
    reply::notice(
        &mut out,
        "countersign: sign in by a browser to go on",
        Some(&detail),
        Some("It waits 2 min, and nothing reaches the server before. Ctrl-C gives up."),
    );
    writer.write_all(&out).await?;
    writer.flush().await
}

fn random() -> Result<([u8; 32], ConnectCode), Refusal> {
    let (mut secret, mut code) = ([0; 32], [0; 5]);
    let filled = aws_lc_rs::rand::fill(&mut secret).and_then(|()| aws_lc_rs::rand::fill(&mut code));
    filled.map_err(|error| Refusal::unready("the random source", &error))?;
    Ok((secret, ConnectCode::from_random(code)))
}

fn answer(ticket: &Ticket) -> Option<&ConnectAnswer> {
    match &ticket.purpose {
        Purpose::ConnectWeb(connect) => Some(&connect.answer),
        Purpose::SignIn(_)
        | Purpose::PageSession(_)
        | Purpose::LinkChat(_)
        | Purpose::ConfirmVote(_)
        | Purpose::AuditPage(_) => None,
    }
}

fn has_answer(ticket: &Ticket) -> bool {
    answer(ticket).is_some_and(|answer| *answer != ConnectAnswer::None)
}

fn unavailable(error: TicketError) -> Refusal {
    match error {
        TicketError::Conflict { .. } => too_late(),
        error @ (TicketError::Damaged { .. } | TicketError::Unavailable { .. }) => {
            Refusal::unready("the store of sign-ins", &error)
        }
    }
}

fn no_pages() -> Refusal {
    Refusal::new(
        Cause::SignIn,
        "countersign: nobody can sign in by a browser here: no issuer of the configuration has a client_id",
    )
    .hint("Give the token of your identity provider as the password.")
}

fn too_late() -> Refusal {
    Refusal::new(Cause::SignIn, "countersign: nobody signed in within 2 min")
        .hint("Connect again, and open the new link.")
}

fn stopping() -> Refusal {
    Refusal::new(Cause::Ended, "countersign: the gateway is stopping").hint("Connect again in a moment.")
}

#[cfg(test)]
mod tests {
    use super::super::wire::FrameReader;
    use super::*;
    use countersign_infra::domain::example::client;
    use countersign_infra::domain::id::Digest;
    use countersign_infra::domain::ticket::TicketId;
    use countersign_infra::embedded::EmbeddedStore;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::either::Either;

    fn wish() -> ConnectWeb {
        ConnectWeb {
            target: "shop".to_owned(),
            database: "shop".to_owned(),
            user: "alice".to_owned(),
            client: client(),
            code: Digest::ZERO,
            tries: 0,
            answer: ConnectAnswer::None,
        }
    }

    #[tokio::test]
    async fn a_wait_ends_by_itself_and_takes_its_ticket_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let pages = "https://gateway.example/".parse().unwrap();
        let sign_ins = WebSignIns {
            wait_max: LOOK_EVERY,
            ..WebSignIns::new(Arc::new(store.clone()), Some(pages))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut psql = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, address) = listener.accept().await.unwrap();
        let (reader, mut writer) = tokio::io::split(Either::Left(socket));
        let mut reader = FrameReader::new(reader, 1 << 10);
        let stop = CancellationToken::new();
        let ended = sign_ins
            .sign_in(wish(), address, (&mut reader, &mut writer), &stop)
            .await;
        let Err(NoPerson::Refused(refusal)) = ended else {
            panic!("{ended:?}");
        };
        assert!(refusal.message.contains("nobody signed in"), "{refusal}");
        drop((reader, writer));
        let mut told = String::new();
        psql.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("R\0\0\0\u{8}\0\0\0\0N"), "{told:?}");
        let (_, secret) = told.split_once("https://gateway.example/connect/").unwrap();
        let secret = Secret::new(secret.split(' ').next().unwrap().to_owned());
        assert_eq!(secret.reveal().len(), 43);
        assert_eq!(store.read(TicketId::of(&secret)).await.unwrap(), None);
        assert!(sign_ins.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait_and_who_cannot_sign_in_does_not_wait() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _psql = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, address) = listener.accept().await.unwrap();
        let (reader, mut writer) = tokio::io::split(Either::Left(socket));
        let mut reader = FrameReader::new(reader, 1 << 10);
        let stop = CancellationToken::new();
        stop.cancel();
        let pages = "https://gateway.example/".parse().unwrap();
        let sign_ins = WebSignIns::new(Arc::new(store.clone()), Some(pages));
        let ended = sign_ins
            .sign_in(wish(), address, (&mut reader, &mut writer), &stop)
            .await;
        assert!(matches!(ended, Err(NoPerson::Refused(refusal)) if refusal.cause == Cause::Ended));
        let sign_ins = WebSignIns::new(Arc::new(store), None);
        let ended = sign_ins
            .sign_in(wish(), address, (&mut reader, &mut writer), &stop)
            .await;
        assert!(matches!(ended, Err(NoPerson::TurnedAway(refusal)) if refusal.message.contains("client_id")));
    }
}
