//! What is known of a question, as Cedar's entities, request and context. Always built with the schema: without
//! it, action groups silently do not match.

use super::uses::Uses;
use super::{GatewayAction, Question, TargetFacts};
use crate::domain::access_request::Protocol;
use crate::domain::effect::EffectKind;
use crate::domain::identity::{Person, PersonKind};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value, Schema,
};
use chrono::{DateTime, Datelike, Timelike, Utc, Weekday};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// What rules see of an operation's text.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Why a question cannot be put to the rules.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unaskable(String);

fn unaskable(error: impl std::fmt::Display) -> Unaskable {
    Unaskable(error.to_string())
}

/// Names of the entity types, parsed once.
pub(super) struct Types(HashMap<&'static str, EntityTypeName>);

impl Types {
    const NAMES: [&'static str; 8] = [
        "Action",
        "Gateway",
        "Group",
        "Person",
        "PersonKind",
        "Protocol",
        "Target",
        "Weekday",
    ];

    pub fn new() -> Result<Self, String> {
        let parse = |name: &'static str| match name.parse() {
            Ok(parsed) => Ok((name, parsed)),
            Err(error) => Err(cedar_policy::ParseErrors::to_string(&error)),
        };
        Ok(Self(Self::NAMES.into_iter().map(parse).collect::<Result<_, _>>()?))
    }

    fn uid(&self, name: &'static str, id: &str) -> Result<EntityUid, Unaskable> {
        let name = self.0.get(name).ok_or_else(|| unaskable(name))?;
        Ok(EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id)))
    }

    fn value(&self, name: &'static str, id: &str) -> Result<Value, Unaskable> {
        Ok(Value::new_entity_uid(self.uid(name, id)?))
    }
}

/// A question about one operation, ready to be asked for each effect.
pub(super) struct Facts<'a> {
    schema: &'a Schema,
    types: &'a Types,
    pub entities: Entities,
    principal: EntityUid,
    resource: EntityUid,
    /// All of the context but the judged object.
    context: Vec<(String, Value)>,
}

impl<'a> Facts<'a> {
    /// Gathers what `uses` says that rules look at; required attributes that no rule looks at may be blank.
    pub fn of_operation(
        question: &Question<'_>,
        schema: &'a Schema,
        types: &'a Types,
        uses: &Uses,
    ) -> Result<Self, Unaskable> {
        let person = person(&question.request.person, types)?;
        let target = target(question.target, types)?;
        Ok(Self {
            schema,
            types,
            principal: person.uid(),
            resource: target.uid(),
            entities: entities(&question.request.person, [person, target], schema, types)?,
            context: operation(question, types, uses)?,
        })
    }

    pub fn of_gateway(
        person_known: &Person,
        now: DateTime<Utc>,
        schema: &'a Schema,
        types: &'a Types,
    ) -> Result<Self, Unaskable> {
        let person = person(person_known, types)?;
        let gateway = Entity::new_no_attrs(types.uid("Gateway", "gateway")?, HashSet::new());
        Ok(Self {
            schema,
            types,
            principal: person.uid(),
            resource: gateway.uid(),
            entities: entities(person_known, [person, gateway], schema, types)?,
            context: time(now, types)?,
        })
    }

    /// One effect on one object, under each of the object's names.
    pub fn effect(&self, kind: EffectKind, names: &BTreeSet<String>) -> Result<Request, Unaskable> {
        let set = |names: &BTreeSet<String>| Value::new_set(names.iter().cloned().map(Value::new_string));
        let none = BTreeSet::new();
        let tables = if is_on_tables(kind) { names } else { &none };
        let mut context = self.context.clone();
        context.push(("objects".to_owned(), set(names)));
        context.push(("tables".to_owned(), set(tables)));
        self.request(kind.as_str(), context)
    }

    pub fn gateway_action(&self, action: GatewayAction) -> Result<Request, Unaskable> {
        self.request(action.as_str(), self.context.clone())
    }

    fn request(&self, action: &str, context: Vec<(String, Value)>) -> Result<Request, Unaskable> {
        let action = self.types.uid("Action", action)?;
        let context = Context::from_pairs(context).map_err(unaskable)?;
        Request::new(
            self.principal.clone(),
            action,
            self.resource.clone(),
            context,
            Some(self.schema),
        )
        .map_err(unaskable)
    }
}

/// The names under which rules may speak of an object: `shop.orders` is also `orders`, and `shop.*` as one of the
/// things in `shop`.
pub(super) fn names_of(object: &str) -> BTreeSet<String> {
    let starts = object.match_indices('.').map(|(dot, _)| dot + 1);
    let tails = std::iter::once(0).chain(starts).filter_map(|start| object.get(start..));
    let mut names = BTreeSet::new();
    for tail in tails.filter(|tail| !tail.is_empty()) {
        names.insert(tail.to_owned());
        if let Some((schema, _)) = tail.rsplit_once('.') {
            names.insert(format!("{schema}.*"));
        }
    }
    names
}

pub(super) fn is_truncated(text: &str) -> bool {
    text.len() > TEXT_BYTES_MAX
}

pub(super) fn person_kind(kind: PersonKind) -> &'static str {
    match kind {
        PersonKind::Human => "human",
        PersonKind::Machine => "machine",
    }
}

pub(super) fn weekday(now: DateTime<Utc>) -> &'static str {
    match now.weekday() {
        Weekday::Mon => "monday",
        Weekday::Tue => "tuesday",
        Weekday::Wed => "wednesday",
        Weekday::Thu => "thursday",
        Weekday::Fri => "friday",
        Weekday::Sat => "saturday",
        Weekday::Sun => "sunday",
    }
}

fn is_on_tables(kind: EffectKind) -> bool {
    match kind {
        EffectKind::Read | EffectKind::Lock | EffectKind::Write | EffectKind::Ddl => true,
        EffectKind::Session
        | EffectKind::Transaction
        | EffectKind::Privilege
        | EffectKind::Call
        | EffectKind::Admin
        | EffectKind::Exec
        | EffectKind::Unknown => false,
    }
}

fn entities(person: &Person, asked: [Entity; 2], schema: &Schema, types: &Types) -> Result<Entities, Unaskable> {
    let mut all = asked.to_vec();
    for group in &person.groups {
        all.push(Entity::new_no_attrs(types.uid("Group", group)?, HashSet::new()));
    }
    Entities::from_entities(all, Some(schema)).map_err(unaskable)
}

fn person(person: &Person, types: &Types) -> Result<Entity, Unaskable> {
    let mut attributes = HashMap::from([
        ("kind".to_owned(), types.value("PersonKind", person_kind(person.kind))?),
        ("issuer".to_owned(), Value::new_string(person.key.issuer.clone())),
        ("subject".to_owned(), Value::new_string(person.key.subject.clone())),
    ]);
    if let Some(email) = &person.email {
        attributes.insert("email".to_owned(), Value::new_string(email.clone()));
    }
    let groups: Result<_, _> = person.groups.iter().map(|group| types.uid("Group", group)).collect();
    Entity::new(types.uid("Person", &person.key.to_string())?, attributes, groups?).map_err(unaskable)
}

fn target(target: &TargetFacts, types: &Types) -> Result<Entity, Unaskable> {
    let tags = target.tags.iter().cloned().map(Value::new_string);
    let attributes = HashMap::from([
        ("name".to_owned(), Value::new_string(target.name.clone())),
        ("kind".to_owned(), protocol(target.kind, types)?),
        ("tags".to_owned(), Value::new_set(tags)),
    ]);
    Entity::new(types.uid("Target", &target.name)?, attributes, HashSet::new()).map_err(unaskable)
}

fn protocol(protocol: Protocol, types: &Types) -> Result<Value, Unaskable> {
    types.value("Protocol", protocol.as_str())
}

fn operation(question: &Question<'_>, types: &Types, uses: &Uses) -> Result<Vec<(String, Value)>, Unaskable> {
    let (request, operation) = (question.request, &question.request.operation);
    let text = if uses.looks_at("text") {
        head(&operation.text)
    } else {
        ""
    };
    let address = if uses.looks_at("client_address") {
        address(&request.client.address)?
    } else {
        [0; 4].into()
    };
    let mut context = time(question.now, types)?;
    context.extend(
        [
            ("protocol", protocol(operation.protocol, types)?),
            ("database", Value::new_string(request.place.database.clone())),
            ("role", Value::new_string(request.place.role.clone())),
            ("text", Value::new_string(text.to_owned())),
            ("text_truncated", Value::new_bool(is_truncated(&operation.text))),
            ("has_where", Value::new_bool(operation.has_where)),
            ("unseen_data", Value::new_bool(operation.unseen_data)),
            ("in_transaction", Value::new_bool(request.in_transaction)),
            ("client_address", Value::new_ip(address.to_string())),
            ("application", Value::new_string(request.client.application.clone())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(context)
}

fn time(now: DateTime<Utc>, types: &Types) -> Result<Vec<(String, Value)>, Unaskable> {
    Ok(vec![
        ("hour".to_owned(), Value::new_long(i64::from(now.hour()))),
        ("weekday".to_owned(), types.value("Weekday", weekday(now))?),
        (
            "now".to_owned(),
            Value::new_datetime(now.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
        ),
    ])
}

fn head(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

/// Reads an address with or without its port; a mapped IPv4 address is the IPv4 address that it maps.
fn address(text: &str) -> Result<IpAddr, Unaskable> {
    let with_port = text.parse().map(|address: SocketAddr| address.ip());
    let address = with_port.or_else(|_| text.parse::<IpAddr>());
    address.map(|address| address.to_canonical()).map_err(|_| {
        unaskable(format!(
            "a rule looks at the client's address, and {text:?} is not an IP address"
        ))
    })
}
