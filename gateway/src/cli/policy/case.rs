//! One question as `policy test` puts it, and its answer.

use crate::protocol::postgres::effects::{Analysis, Analyst, Prepared, Role, StatementFacts};
use chrono::{DateTime, Utc};
use countersign_infra::config::Config;
use countersign_infra::domain::access_request::{AccessRequest, Client, Operation, Place, Protocol};
use countersign_infra::domain::approval::Terms;
use countersign_infra::domain::effect::{EffectKind, Effects};
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::identity::{Person, PersonKey, PersonKind};
use countersign_infra::policy::{Policies, Question, TargetFacts, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(rename = "as")]
    pub person: String,
    #[serde(default)]
    pub groups: Vec<String>,
    pub issuer: Option<String>,
    pub email: Option<String>,
    #[serde(default)]
    pub machine: bool,
    pub target: String,
    pub tags: Option<Vec<String>>,
    pub database: Option<String>,
    pub role: Option<String>,
    pub client: Option<IpAddr>,
    pub application: Option<String>,
    #[serde(default)]
    pub in_transaction: bool,
    pub at: Option<DateTime<Utc>>,
    pub sql: String,
}

/// What would be done, and what the policy says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    pub effects: Vec<EffectView>,
    pub verdict: VerdictName,
    pub rules: Vec<String>,
    pub reasons: Vec<String>,
    pub terms: Option<Terms>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct EffectView {
    pub kind: EffectKind,
    pub objects: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VerdictName {
    Allow,
    Hold,
    Deny,
}

impl std::fmt::Display for VerdictName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Deny => "deny",
        })
    }
}

/// What questions are put to.
pub(super) struct Ground {
    policies: Policies,
    config: Option<Config>,
    analyst: Analyst,
}

impl Ground {
    pub fn new(policies: Policies, config: Option<Config>) -> anyhow::Result<Self> {
        let limit = config
            .as_ref()
            .map_or(STATEMENT_BYTES_MAX, |config| config.limits.statement_bytes_max);
        Ok(Self {
            policies,
            config,
            analyst: Analyst::new(limit)?,
        })
    }

    /// Answers as a gateway would on a new session. SQL that cannot be understood is denied.
    pub async fn answer(&self, asked: &Asked) -> anyhow::Result<Answer> {
        let target = self.target(asked)?;
        let analysis = match self.analyst.analyse(asked.sql.as_bytes()).await {
            Ok(analysis) => analysis,
            Err(unparseable) => return Ok(Answer::unparseable(&unparseable.message, unparseable.hint)),
        };
        let request = self.request(asked, operation(&analysis, &asked.sql));
        let now = asked.at.unwrap_or_else(Utc::now);
        let verdict = self.policies.evaluate(&Question {
            request: &request,
            target: &target,
            now,
        });
        Ok(Answer::new(&request.operation.effects, verdict))
    }

    /// The target as it is configured, or a PostgreSQL server of that name where no configuration is given.
    fn target(&self, asked: &Asked) -> anyhow::Result<TargetFacts> {
        let mut tags = Vec::new();
        if let Some(config) = &self.config {
            let known = config.targets.iter().find(|target| target.name == asked.target);
            let names = || {
                config
                    .targets
                    .iter()
                    .map(|target| target.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let known = known.ok_or_else(|| {
                anyhow::anyhow!("the configuration has no target {:?}; it has {}", asked.target, names())
            })?;
            tags.clone_from(&known.tags);
        }
        Ok(TargetFacts {
            name: asked.target.clone(),
            kind: Protocol::Postgres,
            tags: asked.tags.clone().unwrap_or(tags),
        })
    }

    fn request(&self, asked: &Asked, operation: Operation) -> AccessRequest {
        let config = self.config.as_ref();
        let target = config.and_then(|config| config.targets.iter().find(|target| target.name == asked.target));
        let issuer = || {
            config
                .and_then(|config| config.issuers.first())
                .map(|issuer| issuer.url.to_string())
        };
        let kind = if asked.machine {
            PersonKind::Machine
        } else {
            PersonKind::Human
        };
        AccessRequest {
            session: SessionId(uuid::Uuid::nil()),
            person: Person {
                key: PersonKey {
                    issuer: asked.issuer.clone().or_else(issuer).unwrap_or_default(),
                    subject: asked.person.clone(),
                },
                name: asked.person.clone(),
                email: asked.email.clone(),
                groups: asked.groups.iter().filter(|group| !group.is_empty()).cloned().collect(),
                kind,
            },
            client: Client {
                address: asked.client.unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string(),
                application: asked.application.clone().unwrap_or_else(|| "psql".to_owned()),
            },
            place: Place {
                target: asked.target.clone(),
                database: named(&asked.database, target.map(|target| &target.database)),
                role: named(&asked.role, target.map(|target| &target.user)),
                search_path: String::new(),
            },
            operation,
            in_transaction: asked.in_transaction,
        }
    }
}

fn named(asked: &Option<String>, configured: Option<&String>) -> String {
    asked.as_ref().or(configured).cloned().unwrap_or_default()
}

impl Answer {
    fn new(effects: &Effects, verdict: Verdict) -> Self {
        let (verdict, rules, reasons, terms) = match verdict {
            Verdict::Allow { rules } => (VerdictName::Allow, rules, Vec::new(), None),
            Verdict::Deny { rules, reasons } => (VerdictName::Deny, rules, reasons, None),
            Verdict::Hold { rules, terms } => (VerdictName::Hold, rules, terms.reasons.clone(), Some(terms)),
        };
        let effects = effects.iter().map(|(kind, objects)| EffectView {
            kind,
            objects: objects.clone(),
        });
        Self {
            effects: effects.collect(),
            verdict,
            rules,
            reasons,
            terms,
        }
    }

    fn unparseable(message: &str, hint: Option<String>) -> Self {
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let reasons = vec![format!("the statement is not understood: {message}{hint}")];
        Self {
            effects: Vec::new(),
            verdict: VerdictName::Deny,
            rules: Vec::new(),
            reasons,
            terms: None,
        }
    }

    /// `write orders; call pg_sleep`, or `none`.
    pub fn effects_in_words(&self) -> String {
        let words = self.effects.iter().map(|effect| {
            let objects: Vec<_> = effect.objects.iter().map(String::as_str).collect();
            format!("{} {}", effect.kind, objects.join(", ")).trim_end().to_owned()
        });
        match words.collect::<Vec<_>>().join("; ") {
            words if words.is_empty() => "none".to_owned(),
            words => words,
        }
    }
}

/// The statements of one text, judged together as those of one Query message are.
fn operation(analysis: &Analysis, sql: &str) -> Operation {
    let mut names = Names::default();
    let mut effects = Effects::default();
    let mut writes = BTreeSet::new();
    let (mut has_where, mut unseen_data) = (true, false);
    for statement in &analysis.statements {
        let facts = statement.resolved(&names);
        names.learn(statement);
        effects.merge(&facts.effects);
        writes.extend(facts.writes);
        has_where &= facts.has_where;
        unseen_data |= facts.role == Role::CopyIn;
    }
    Operation {
        protocol: Protocol::Postgres,
        parts: Vec::new(),
        display: String::new(),
        text: sql.to_owned(),
        effects,
        writes,
        has_where,
        unseen_data,
    }
}

/// The names that the text itself gives. Any other name is one that nothing is known of.
#[derive(Default)]
struct Names {
    statements: HashMap<String, Arc<StatementFacts>>,
    cursors: HashMap<String, Arc<StatementFacts>>,
}

impl Names {
    fn learn(&mut self, statement: &StatementFacts) {
        match &statement.role {
            Role::Prepare { name, body } => {
                self.statements.insert(name.clone(), Arc::clone(body));
            }
            Role::Declare { name, .. } => {
                self.cursors.insert(name.clone(), Arc::new(statement.clone()));
            }
            Role::Deallocate { name: Some(name) } => drop(self.statements.remove(name)),
            Role::Close { name: Some(name) } => drop(self.cursors.remove(name)),
            Role::Deallocate { name: None } => self.statements.clear(),
            Role::Close { name: None } => self.cursors.clear(),
            Role::DiscardAll => *self = Self::default(),
            Role::Plain
            | Role::Begin
            | Role::Commit { .. }
            | Role::Rollback { .. }
            | Role::Savepoint
            | Role::RollbackToSavepoint
            | Role::ReleaseSavepoint
            | Role::Execute { .. }
            | Role::Fetch { .. }
            | Role::CopyIn
            | Role::CopyOut => {}
        }
    }
}

impl Prepared for Names {
    fn statement(&self, name: &str) -> Option<Arc<StatementFacts>> {
        self.statements.get(name).cloned()
    }

    fn cursor(&self, name: &str) -> Option<Arc<StatementFacts>> {
        self.cursors.get(name).cloned()
    }
}
