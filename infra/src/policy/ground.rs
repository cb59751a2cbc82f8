//! The ground that all rules stand on: the schema, and the proof that it and this engine forbid what they should.

use super::evaluate::{Engine, Judgement};
use super::facts::{Facts, Types};
use super::uses::Uses;
use super::{GatewayAction, Question, TargetFacts};
use crate::domain::access_request::{AccessRequest, Client, Operation, Place, Protocol};
use crate::domain::effect::{EffectKind, Effects};
use crate::domain::id::SessionId;
use crate::domain::identity::{Person, PersonKey, PersonKind};
use cedar_policy::{Authorizer, Schema};
use chrono::DateTime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// The schema that every policy is held to. It ships with the product.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The schema and the names of its types, parsed.
pub(super) struct Ground {
    pub schema: Schema,
    pub types: Types,
}

impl Ground {
    /// Parses and proves the schema, once in the life of the process: neither can change while it runs.
    pub fn proven() -> Result<Arc<Self>, String> {
        static PROVEN: LazyLock<Result<Arc<Ground>, String>> = LazyLock::new(|| {
            let ground = Arc::new(Ground {
                schema: schema()?,
                types: Types::new()?,
            });
            prove(&ground).map(|()| ground)
        });
        PROVEN.clone()
    }
}

fn schema() -> Result<Schema, String> {
    let (schema, warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| error.to_string())?;
    match warnings.map(|warning| warning.to_string()).next() {
        Some(warning) => Err(warning),
        None => Ok(schema),
    }
}

/// Proves, over the code that judges real questions, that a forbid on `any` denies each effect and that one on
/// everything denies each right on the gateway. A request or entities built without the schema would fail here.
fn prove(ground: &Arc<Ground>) -> Result<(), String> {
    let permit = "permit (principal, action, resource);";
    let closed_any = format!("{permit} forbid (principal, action in Action::\"any\", resource);");
    let closed_all =
        format!("{permit} forbid (principal, action in [Action::\"any\", Action::\"oversee\"], resource);");
    for (text, open) in [(permit, true), (&closed_any, false)] {
        let proof = proving(ground, text)?;
        for kind in EffectKind::ALL {
            let judged = prove_effect(&proof, kind)?;
            expect(kind.as_str(), &judged, open)?;
        }
    }
    for (text, open) in [(permit, true), (&closed_all, false)] {
        let proof = proving(ground, text)?;
        for action in GatewayAction::ALL {
            let facts = Facts::of_gateway(
                &nobody(),
                DateTime::UNIX_EPOCH,
                &proof.ground.schema,
                &proof.ground.types,
            );
            let judged = facts.and_then(|facts| Ok(proof.judge(&facts.gateway_action(action)?, &facts.entities)));
            expect(action.as_str(), &judged.map_err(|error| error.to_string())?, open)?;
        }
    }
    Ok(())
}

fn proving(ground: &Arc<Ground>, text: &str) -> Result<Engine, String> {
    let set = text
        .parse()
        .map_err(|error: cedar_policy::ParseErrors| error.to_string())?;
    Ok(Engine {
        ground: Arc::clone(ground),
        authorizer: Authorizer::new(),
        set,
        rules: BTreeMap::new(),
    })
}

fn prove_effect(proof: &Engine, kind: EffectKind) -> Result<Judgement, String> {
    let request = nothing();
    let target = TargetFacts {
        name: "self-test".to_owned(),
        kind: Protocol::Postgres,
        tags: Vec::new(),
    };
    let question = Question {
        request: &request,
        target: &target,
        now: DateTime::UNIX_EPOCH,
    };
    let facts = Facts::of_operation(&question, &proof.ground.schema, &proof.ground.types, &Uses::default());
    let names = BTreeSet::from(["orders".to_owned()]);
    let judged = facts.and_then(|facts| Ok(proof.judge(&facts.effect(kind, &names)?, &facts.entities)));
    judged.map_err(|error| error.to_string())
}

fn expect(action: &str, judged: &Judgement, open: bool) -> Result<(), String> {
    match (judged, open) {
        (Judgement::Allowed(_), true) | (Judgement::Forbidden(_), false) => Ok(()),
        (other, _) => Err(format!(
            "the self-test of the policy engine failed at `{action}`: {other:?}"
        )),
    }
}

fn nobody() -> Person {
    Person {
        key: PersonKey {
            issuer: "self-test".to_owned(),
            subject: "nobody".to_owned(),
        },
        name: "nobody".to_owned(),
        email: None,
        groups: BTreeSet::from(["self-test".to_owned()]),
        kind: PersonKind::Machine,
    }
}

fn nothing() -> AccessRequest {
    let blank = String::new;
    AccessRequest {
        session: SessionId(uuid::Uuid::nil()),
        person: nobody(),
        client: Client {
            address: "127.0.0.1:1".to_owned(),
            application: blank(),
        },
        place: Place {
            target: "self-test".to_owned(),
            database: blank(),
            role: blank(),
            search_path: blank(),
        },
        operation: Operation {
            protocol: Protocol::Postgres,
            parts: Vec::new(),
            display: blank(),
            text: blank(),
            effects: Effects::default(),
            writes: BTreeSet::new(),
            has_where: true,
            unseen_data: false,
        },
        in_transaction: false,
    }
}
