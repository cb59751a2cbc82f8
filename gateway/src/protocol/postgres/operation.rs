//! From messages to one operation: what is judged together, what it would do, and what the server will answer.

use super::batch::{BlockChange, Conversation, Expected, Name, Portal, PreparedStatement, Step, Value, step};
use super::effects::{Analysis, Prepared, Role, StatementFacts, Unparseable};
use super::message::Message;
use super::values;
use crate::mask;
use bytes::Bytes;
use countersign_infra::domain::access_request::{Operation, Part, Protocol};
use countersign_infra::domain::display::{MASKED, escape};
use countersign_infra::domain::effect::{EffectKind, Effects, WriteKind};
use countersign_infra::operations::DISPLAY_BYTES_MAX;
use std::collections::BTreeSet;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

/// Smaller OIDs belong to the server itself (FirstNormalObjectId, access/transam.h).
const FIRST_FOREIGN_OID: u32 = 16_384;

/// A message of a unit, with the analysis of the text that it carries.
pub struct Analysed {
    pub message: Message,
    /// For Query and Parse whose text could be read.
    pub analysis: Option<Arc<Analysis>>,
    /// Why the text could not be read.
    pub failure: Option<Unparseable>,
}

/// A run of messages that is judged together, and what follows from it.
pub struct Draft<T> {
    /// How many of the given messages it covers: it ends before a Parse or Bind whose meaning the messages before
    /// it may change.
    pub messages: usize,
    /// What is judged. None: nothing of it runs anything that was not judged before.
    pub operation: Option<Operation>,
    /// Texts that are only parsed: they must not be denied.
    pub parsed: Vec<Operation>,
    /// The replies that the server will owe, in order.
    pub expected: Vec<Expected<T>>,
    /// What later statements mean may change with it.
    pub changes_session: bool,
    pub copy_in: bool,
    /// It ends or begins a transaction block, or works on savepoints.
    pub changes_block: bool,
    /// A portal is bound and not executed in it: when it will run is not known.
    pub leaves_portal: bool,
    /// It begins with the end of a transaction block, or with a return to a savepoint: it can run in a failed block.
    pub ends_block: bool,
}

/// Drafts the longest run from the start of `messages` that can be judged together.
pub fn draft<T>(
    messages: &[Analysed],
    conversation: &Conversation<T>,
    epoch: u64,
    masked_columns: &[String],
) -> Draft<T> {
    let mut drafter = Drafter {
        names: Names {
            conversation,
            statements: HashMap::new(),
            portals: HashMap::new(),
        },
        epoch,
        masked_columns,
        subject: Subject::default(),
        unbound: Vec::new(),
        expected: Vec::new(),
        barrier: false,
        waiting: HashSet::new(),
        facts: Collected::default(),
    };
    let covered = messages.iter().take_while(|analysed| drafter.take(analysed)).count();
    drafter.finish(covered)
}

struct Drafter<'a, T> {
    names: Names<'a, T>,
    epoch: u64,
    masked_columns: &'a [String],
    subject: Subject,
    /// Statements parsed here and not bound here.
    unbound: Vec<(Name, Arc<PreparedStatement>)>,
    expected: Vec<Expected<T>>,
    /// What was taken so far may change what a following Parse or Bind means.
    barrier: bool,
    /// Portals bound here and not executed here so far.
    waiting: HashSet<Name>,
    facts: Collected,
}

#[derive(Default)]
struct Collected {
    changes_session: bool,
    copy_in: bool,
    changes_block: bool,
    /// Of the first statement.
    ends_block: Option<bool>,
}

/// What is judged, as it grows.
#[derive(Default)]
struct Subject {
    parts: Vec<Part>,
    display: String,
    text: String,
    effects: Effects,
    writes: BTreeSet<WriteKind>,
    without_where: bool,
    unseen_data: bool,
    judged: bool,
}

impl<T> Drafter<'_, T> {
    /// Takes one message; false when it must be judged later than what was taken.
    fn take(&mut self, analysed: &Analysed) -> bool {
        match &analysed.message {
            Message::Parse { .. } | Message::Bind { .. } | Message::Query { .. } | Message::FunctionCall { .. }
                if self.barrier =>
            {
                return false;
            }
            Message::Query { text } => self.query(text, analysed.analysis.as_ref()),
            Message::Parse { name, text, types } => self.parse(name, text, types, analysed.analysis.as_ref()),
            Message::Bind {
                portal,
                statement,
                values,
            } => self.bind(portal, statement, values),
            Message::Describe { kind: b'S', name } => {
                self.expected.push(Expected::DescribeStatement { name: name.clone() });
            }
            Message::Describe { .. } => self.expected.push(Expected::DescribePortal),
            Message::Execute { portal } => return self.execute(portal),
            Message::Close { kind, name } => self.close(*kind, name),
            Message::FunctionCall { function, body } => self.function_call(*function, body),
            Message::Sync => self.expected.push(Expected::Sync),
            Message::Flush | Message::CopyData | Message::CopyDone | Message::CopyFail | Message::Terminate => {}
        }
        true
    }

    fn query(&mut self, text: &Bytes, analysis: Option<&Arc<Analysis>>) {
        let Some(analysis) = analysis else { return };
        self.subject.judge(
            Part {
                tag: "query".to_owned(),
                bytes: text.clone(),
            },
            &self.show(text, analysis),
        );
        self.subject.raw_text(text);
        let mut steps = VecDeque::with_capacity(analysis.statements.len());
        let mut changed = false;
        for facts in &analysis.statements {
            let resolved = self.resolve(facts);
            if changed && !only_session(&resolved) {
                // What comes before it in the same string may change what its names mean.
                self.subject.effects.add(EffectKind::Unknown);
            }
            changed |= changes_lookup(&resolved);
            self.collect(&resolved);
            let cursor = || cursor_of(&resolved, text, self.epoch);
            let step = step(&facts.role, text, cursor);
            self.names.note(&step);
            steps.push_back(step);
        }
        self.expected.push(Expected::Query { steps });
    }

    fn parse(&mut self, name: &Name, text: &Bytes, types: &[u32], analysis: Option<&Arc<Analysis>>) {
        let Some(analysis) = analysis else { return };
        let prepared = Arc::new(PreparedStatement {
            text: text.clone(),
            analysis: analysis.clone(),
            types: types.to_vec(),
            foreign_types: types.iter().copied().filter(|oid| *oid >= FIRST_FOREIGN_OID).collect(),
        });
        self.names.statements.insert(name.clone(), Some(prepared.clone()));
        self.unbound.retain(|(other, _)| other != name);
        self.unbound.push((name.clone(), prepared.clone()));
        self.expected.push(Expected::Parse {
            name: name.clone(),
            prepared,
        });
    }

    fn bind(&mut self, portal: &Name, statement: &Name, values: &Arc<[Value]>) {
        let prepared = self.names.statement(statement).unwrap_or_else(unknown_statement);
        self.unbound.retain(|(name, _)| name != statement);
        let bound = Portal {
            prepared,
            values: values.clone(),
            epoch: self.epoch,
            with_hold: false,
        };
        self.judge_portal(&bound);
        self.names.portals.insert(portal.clone(), Some(bound.clone()));
        self.waiting.insert(portal.clone());
        self.expected.push(Expected::Bind {
            name: portal.clone(),
            portal: bound,
        });
    }

    /// An Execute of a portal that was judged at its Bind is free, unless what the session means has changed since.
    fn execute(&mut self, portal: &Name) -> bool {
        let found = self.names.portal(portal);
        let fresh = found.as_ref().is_some_and(|found| found.epoch == self.epoch);
        // Behind a barrier only the portal that is the barrier itself: others were judged for what stood before.
        if self.barrier && !found.as_ref().is_some_and(|found| fresh && self.is_barrier(found)) {
            return false;
        }
        let bound = found.unwrap_or_else(|| Portal {
            prepared: unknown_statement(),
            values: Arc::new([]),
            epoch: self.epoch,
            with_hold: false,
        });
        if !fresh {
            self.judge_portal(&bound);
        }
        self.waiting.remove(portal);
        let step = self.portal_step(&bound);
        self.names.note(&step);
        self.expected.push(Expected::Execute { step });
        true
    }

    fn is_barrier(&self, bound: &Portal) -> bool {
        let mut statements = bound.prepared.analysis.statements.iter();
        statements.any(|facts| self.resolve(facts).changes_session || changes_block(&facts.role))
    }

    fn portal_step(&self, bound: &Portal) -> Step {
        match bound.prepared.analysis.statements.as_slice() {
            [facts] => step(&facts.role, &bound.prepared.text, || {
                cursor_of(&self.resolve(facts), &bound.prepared.text, self.epoch)
            }),
            _ => Step::default(),
        }
    }

    fn judge_portal(&mut self, bound: &Portal) {
        let prepared = &bound.prepared;
        self.subject.judge(
            Part {
                tag: "statement".to_owned(),
                bytes: prepared.text.clone(),
            },
            &self.show(&prepared.text, &prepared.analysis),
        );
        self.subject.raw_text(&prepared.text);
        let count = u32::try_from(bound.values.len()).unwrap_or(u32::MAX);
        let hidden = mask::masked_parameters(&prepared.analysis, self.masked_columns, count);
        for (index, value) in bound.values.iter().enumerate() {
            let oid = prepared.types.get(index).copied().unwrap_or(0);
            let hides = u32::try_from(index + 1).is_ok_and(|number| hidden.contains(&number));
            self.subject.value(index, value, oid, hides);
        }
        for oid in &prepared.foreign_types {
            // Reading a value of such a type may run code: a domain's check, a type's own input function.
            self.subject.effects.add_object(EffectKind::Call, format!("type {oid}"));
        }
        for facts in &prepared.analysis.statements {
            let resolved = self.resolve(facts);
            self.collect(&resolved);
            self.barrier |= resolved.changes_session || changes_block(&resolved.role);
        }
    }

    fn close(&mut self, kind: u8, name: &Name) {
        match kind {
            b'S' => drop(self.names.statements.insert(name.clone(), None)),
            _ => drop(self.names.portals.insert(name.clone(), None)),
        }
        self.expected.push(Expected::Close {
            kind,
            name: name.clone(),
        });
    }

    fn function_call(&mut self, function: u32, body: &Bytes) {
        let shown = format!("function call by number {function}, {} bytes of arguments", body.len());
        self.subject.judge(
            Part {
                tag: "function call".to_owned(),
                bytes: body.clone(),
            },
            &shown,
        );
        self.subject
            .effects
            .add_object(EffectKind::Call, format!("function {function}"));
        self.facts.changes_session = true;
        self.facts.ends_block.get_or_insert(false);
        self.expected.push(Expected::FunctionCall);
    }

    fn show(&self, text: &[u8], analysis: &Analysis) -> String {
        mask::display(&String::from_utf8_lossy(text), Some(analysis), self.masked_columns)
    }

    fn resolve(&self, facts: &StatementFacts) -> StatementFacts {
        let (Role::Prepare { name, .. }
        | Role::Execute { name, .. }
        | Role::Deallocate { name: Some(name) }
        | Role::Declare { name, .. }
        | Role::Fetch { name }
        | Role::Close { name: Some(name) }) = &facts.role
        else {
            return facts.resolved(&self.names);
        };
        let mut resolved = facts.resolved(&self.names);
        let open = !matches!(facts.role, Role::Fetch { .. }) || self.names.portal(&Name::of(name)).is_some();
        if !open || !Name::is_certain(name) {
            resolved.effects.add_object(EffectKind::Unknown, name.clone());
        }
        resolved
    }

    fn collect(&mut self, facts: &StatementFacts) {
        if let Role::Execute { name, .. } = &facts.role
            && let Some(prepared) = self.names.statement(&Name::of(name))
        {
            let shown = format!(
                "-- {} stands for:\n{}",
                escape(name),
                self.show(&prepared.text, &prepared.analysis)
            );
            self.subject.judge(
                Part {
                    tag: "prepared".to_owned(),
                    bytes: prepared.text.clone(),
                },
                &shown,
            );
            self.subject.raw_text(&prepared.text);
        }
        self.subject.effects.merge(&facts.effects);
        self.subject.writes.extend(facts.writes.iter().copied());
        self.subject.without_where |= !facts.has_where;
        let copy_in = matches!(facts.role, Role::CopyIn);
        self.subject.unseen_data |= copy_in;
        self.facts.copy_in |= copy_in;
        self.facts.changes_session |= facts.changes_session;
        self.facts.changes_block |= changes_block(&facts.role);
        let ends = matches!(
            facts.role,
            Role::Commit { .. } | Role::Rollback { .. } | Role::RollbackToSavepoint
        );
        self.facts.ends_block.get_or_insert(ends);
    }

    fn finish(self, messages: usize) -> Draft<T> {
        let parsed = self.unbound.iter().map(|(_, prepared)| {
            let mut subject = Subject::default();
            let part = Part {
                tag: "statement".to_owned(),
                bytes: prepared.text.clone(),
            };
            subject.judge(part, &self.show(&prepared.text, &prepared.analysis));
            subject.raw_text(&prepared.text);
            for facts in &prepared.analysis.statements {
                let resolved = self.resolve(facts);
                subject.effects.merge(&resolved.effects);
                subject.writes.extend(resolved.writes);
                subject.without_where |= !resolved.has_where;
            }
            subject.operation()
        });
        let parsed = parsed.collect();
        let judged = self.subject.judged;
        Draft {
            messages,
            operation: judged.then(|| self.subject.operation()),
            parsed,
            expected: self.expected,
            changes_session: self.facts.changes_session,
            copy_in: self.facts.copy_in,
            changes_block: self.facts.changes_block,
            leaves_portal: !self.waiting.is_empty(),
            ends_block: self.facts.ends_block.unwrap_or(true),
        }
    }
}

impl Subject {
    fn judge(&mut self, part: Part, shown: &str) {
        self.judged = true;
        self.parts.push(part);
        if !self.display.is_empty() {
            self.display.push('\n');
        }
        self.display.push_str(shown);
    }

    fn raw_text(&mut self, text: &[u8]) {
        if !self.text.is_empty() {
            self.text.push_str(";\n");
        }
        self.text.push_str(&String::from_utf8_lossy(text));
    }

    fn value(&mut self, index: usize, value: &Value, oid: u32, hides: bool) {
        let kind = if value.bytes.is_some() { "value" } else { "null" };
        let tag = format!("{kind}:{}:{oid}", value.format);
        self.parts.push(Part {
            tag,
            bytes: value.bytes.clone().unwrap_or_default(),
        });
        let _ = write!(self.display, "\n  ${} = ", index + 1);
        if hides {
            self.display.push_str(MASKED);
        } else {
            values::render(value, oid, &mut self.display, DISPLAY_BYTES_MAX);
        }
    }

    fn operation(self) -> Operation {
        Operation {
            protocol: Protocol::Postgres,
            parts: self.parts,
            display: self.display,
            text: self.text,
            effects: self.effects,
            writes: self.writes,
            has_where: !self.without_where,
            unseen_data: self.unseen_data,
        }
    }
}

/// Names as they will stand when the server comes to a message: what this run defines hides what stood before,
/// because after a failure the rest of the run is not run at all.
struct Names<'a, T> {
    conversation: &'a Conversation<T>,
    /// None: closed here.
    statements: HashMap<Name, Option<Arc<PreparedStatement>>>,
    portals: HashMap<Name, Option<Portal>>,
}

impl<T> Names<'_, T> {
    fn statement(&self, name: &Name) -> Option<Arc<PreparedStatement>> {
        match self.statements.get(name) {
            Some(here) => here.clone(),
            None => self.conversation.statement(name).cloned(),
        }
    }

    fn portal(&self, name: &Name) -> Option<Portal> {
        match self.portals.get(name) {
            Some(here) => here.clone(),
            None => self.conversation.portal(name).cloned(),
        }
    }

    fn note(&mut self, step: &Step) {
        use super::batch::NameChange;
        match &step.names {
            Some(NameChange::Prepare(name, prepared)) => {
                self.statements.insert(name.clone(), Some(prepared.clone()));
            }
            Some(NameChange::Declare(name, portal)) => {
                self.portals.insert(name.clone(), Some(portal.clone()));
            }
            Some(NameChange::Deallocate(Some(name))) => {
                self.statements.insert(name.clone(), None);
            }
            Some(NameChange::ClosePortal(Some(name))) => {
                self.portals.insert(name.clone(), None);
            }
            // A name that is gone is only ever judged more strictly when it is looked up again; what stood before
            // is still the text that would run if the server kept it.
            Some(NameChange::Deallocate(None) | NameChange::ClosePortal(None) | NameChange::DiscardAll) | None => {}
        }
    }
}

impl<T> Prepared for Names<'_, T> {
    fn statement(&self, name: &str) -> Option<Arc<StatementFacts>> {
        let prepared = Names::statement(self, &Name::of(name))?;
        match prepared.analysis.statements.as_slice() {
            [facts] => Some(Arc::new(facts.clone())),
            _ => None,
        }
    }

    fn cursor(&self, name: &str) -> Option<Arc<StatementFacts>> {
        let portal = self.portal(&Name::of(name))?;
        match portal.prepared.analysis.statements.as_slice() {
            [facts] => Some(Arc::new(facts.clone())),
            _ => None,
        }
    }
}

/// What stands for a name that nothing is known of.
fn unknown_statement() -> Arc<PreparedStatement> {
    let mut effects = Effects::default();
    effects.add(EffectKind::Unknown);
    let facts = StatementFacts {
        effects,
        role: Role::Plain,
        writes: BTreeSet::new(),
        has_where: false,
        tables: vec![],
        changes_session: true,
    };
    let text = Bytes::from_static(b"-- a statement of a name that the gateway does not know");
    Arc::new(PreparedStatement {
        text,
        analysis: Arc::new(Analysis::of(vec![facts])),
        types: vec![],
        foreign_types: vec![],
    })
}

fn cursor_of(facts: &StatementFacts, text: &Bytes, epoch: u64) -> Portal {
    let with_hold = matches!(facts.role, Role::Declare { with_hold: true, .. });
    let query = StatementFacts {
        role: Role::Plain,
        ..facts.clone()
    };
    let analysis = Arc::new(Analysis::of(vec![query]));
    let prepared = Arc::new(PreparedStatement {
        text: text.clone(),
        analysis,
        types: vec![],
        foreign_types: vec![],
    });
    Portal {
        prepared,
        values: Arc::new([]),
        epoch,
        with_hold,
    }
}

fn changes_block(role: &Role) -> bool {
    match super::batch::step(role, &Bytes::new(), unreachable_cursor).block {
        Some(BlockChange::Begin | BlockChange::End { .. } | BlockChange::RollbackToSavepoint) => true,
        Some(BlockChange::Savepoint) | None => false,
    }
}

fn unreachable_cursor() -> Portal {
    Portal {
        prepared: unknown_statement(),
        values: Arc::new([]),
        epoch: 0,
        with_hold: false,
    }
}

/// Settings that decide what a name means, or as whom it runs.
fn changes_lookup(facts: &StatementFacts) -> bool {
    const LOOKUP: [&str; 5] = [
        "search_path",
        "role",
        "session_authorization",
        "all",
        "session authorization",
    ];
    if !facts.changes_session {
        return false;
    }
    let mut session = facts.effects.iter().filter(|(kind, _)| *kind == EffectKind::Session);
    let names_lookup = session.any(|(_, names)| {
        names.is_empty()
            || names
                .iter()
                .any(|name| LOOKUP.contains(&name.to_ascii_lowercase().as_str()))
    });
    names_lookup || !only_session(facts)
}

/// The statement does nothing but set the session or the transaction.
fn only_session(facts: &StatementFacts) -> bool {
    facts
        .effects
        .kinds()
        .all(|kind| matches!(kind, EffectKind::Session | EffectKind::Transaction))
}
