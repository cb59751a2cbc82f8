//! Definitions, roles and rights, and the server's own objects. What a definition only keeps for later (a view's query,
//! a function's body, a default) is not run now; what it evaluates now (an index, a USING, a partition bound) is walked.

use super::walk::{Walk, dotted, parts, qualified};
use countersign_infra::domain::effect::EffectKind;
use countersign_infra::domain::effect::EffectKind::{Admin, Ddl, Privilege};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterDomainStmt, AlterObjectSchemaStmt, AlterOwnerStmt, AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef,
    CommentStmt, ConstrType, Constraint, CreateForeignTableStmt, CreateSchemaStmt, CreateStmt, DropStmt, GrantStmt,
    IndexStmt, Node, ObjectType, PartitionBoundSpec, RangeVar, RenameStmt, RoleSpec, TypeName,
};

impl Walk {
    pub(super) fn defines(&mut self, relation: Option<&RangeVar>) {
        self.effect(Ddl);
        if let Some(relation) = relation {
            self.names(Ddl, relation);
        }
    }

    pub(super) fn defines_name(&mut self, name: &[Node]) {
        self.about(&[Ddl], dotted(name));
    }

    /// The same object under several kinds of effect. An empty name names nothing.
    pub(super) fn about(&mut self, kinds: &[EffectKind], object: impl Into<String>) {
        let object = object.into();
        for kind in kinds {
            match object.is_empty() {
                true => self.effect(*kind),
                false => self.object(*kind, object.clone()),
            }
        }
    }

    pub(super) fn create_table(&mut self, create: &CreateStmt) {
        self.defines(create.relation.as_ref());
        self.bound(create.partbound.as_ref());
    }

    pub(super) fn create_foreign_table(&mut self, create: &CreateForeignTableStmt) {
        self.about(&[Admin], create.servername.clone());
        if let Some(base) = &create.base_stmt {
            self.create_table(base);
        }
    }

    /// The bounds of a partition are evaluated when it is made or attached.
    fn bound(&mut self, bound: Option<&PartitionBoundSpec>) {
        if let Some(bound) = bound {
            self.children(&bound.listdatums);
            self.children(&bound.lowerdatums);
            self.children(&bound.upperdatums);
        }
    }

    pub(super) fn create_schema(&mut self, create: &CreateSchemaStmt) {
        let owner = create.authrole.as_ref().map_or("", |role| role.rolename.as_str());
        let name = if create.schemaname.is_empty() {
            owner
        } else {
            &create.schemaname
        };
        self.about(&[Ddl], qualified("", name));
        self.children(&create.schema_elts);
    }

    pub(super) fn create_index(&mut self, create: &IndexStmt) {
        self.defines(create.relation.as_ref());
        self.children(&create.index_params);
        self.children(&create.index_including_params);
        self.child(create.where_clause.as_deref());
        self.children(&create.exclude_op_names);
    }

    pub(super) fn alter_table(&mut self, alter: &AlterTableStmt) {
        self.defines(alter.relation.as_ref());
        let table = alter
            .relation
            .as_ref()
            .map(super::walk::relation_name)
            .unwrap_or_default();
        for command in &alter.cmds {
            if let Some(NodeEnum::AlterTableCmd(command)) = &command.node {
                self.alter_table_cmd(command, &table, alter.objtype);
            } else {
                self.child(Some(command));
            }
        }
    }

    pub(super) fn alter_table_cmd(&mut self, command: &AlterTableCmd, table: &str, altered: i32) {
        self.effect(Ddl);
        match AlterTableType::try_from(command.subtype) {
            Ok(
                AlterTableType::AtChangeOwner
                | AlterTableType::AtEnableRowSecurity
                | AlterTableType::AtDisableRowSecurity
                | AlterTableType::AtForceRowSecurity
                | AlterTableType::AtNoForceRowSecurity,
            ) => self.about(&[Privilege], table),
            // A generated column is computed anew for every row.
            Ok(AlterTableType::AtSetExpression) => self.child(command.def.as_deref()),
            _ => {}
        }
        match command.def.as_deref().and_then(|def| def.node.as_ref()) {
            // A composite type has no rows to fill.
            Some(NodeEnum::ColumnDef(_)) if altered == ObjectType::ObjectType as i32 => {}
            Some(NodeEnum::ColumnDef(column)) => self.added_column(column),
            Some(NodeEnum::Constraint(constraint)) => self.checked(constraint),
            Some(NodeEnum::PartitionCmd(partition)) => {
                if let Some(relation) = &partition.name {
                    self.names(Ddl, relation);
                }
                self.bound(partition.bound.as_ref());
            }
            // SET DEFAULT, options, statistics: kept, not evaluated.
            _other => {}
        }
    }

    /// Fills the rows that are there: the default, USING and the checks run now.
    fn added_column(&mut self, column: &ColumnDef) {
        // The grammar's names for an integer with a sequence of its own.
        let serial = ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"];
        let is_serial = |name: &TypeName| matches!(parts(&name.names).as_slice(), [name] if serial.contains(name));
        self.maybe_type(column.type_name.as_ref().filter(|name| !is_serial(name)));
        self.child(column.raw_default.as_deref());
        for constraint in &column.constraints {
            if let Some(NodeEnum::Constraint(constraint)) = &constraint.node {
                self.checked(constraint);
            }
        }
    }

    /// A constraint that is checked against what is there.
    pub(super) fn checked(&mut self, constraint: &Constraint) {
        self.child(constraint.raw_expr.as_deref());
        self.child(constraint.where_clause.as_deref());
        if ConstrType::try_from(constraint.contype) == Ok(ConstrType::ConstrExclusion) {
            for exclusion in &constraint.exclusions {
                if let Some(NodeEnum::List(pair)) = &exclusion.node {
                    self.exclusion(&pair.items);
                }
            }
        }
    }

    fn exclusion(&mut self, pair: &[Node]) {
        for part in pair {
            match &part.node {
                Some(NodeEnum::List(operator)) => self.operator(&operator.items),
                _other => self.child(Some(part)),
            }
        }
    }

    pub(super) fn alter_domain(&mut self, alter: &AlterDomainStmt) {
        self.defines_name(&alter.type_name);
        match alter.def.as_deref().and_then(|def| def.node.as_ref()) {
            Some(NodeEnum::Constraint(constraint)) => self.checked(constraint),
            // A default is kept, not evaluated.
            _other => {}
        }
    }

    pub(super) fn drop_objects(&mut self, drop: &DropStmt) {
        let kinds = kinds_of(drop.remove_type);
        for kind in kinds {
            self.effect(*kind);
        }
        for object in &drop.objects {
            self.about(kinds, object_name(object));
        }
    }

    pub(super) fn rename(&mut self, rename: &RenameStmt) {
        let mut kinds = kinds_of(rename.rename_type);
        if rename.rename_type == ObjectType::ObjectRole as i32 {
            kinds = &[Privilege];
        }
        let named = rename.object.as_deref().map(object_name).unwrap_or_default();
        match (&rename.relation, named.is_empty()) {
            (Some(relation), _) => kinds.iter().for_each(|kind| self.names(*kind, relation)),
            (None, false) => self.about(kinds, named),
            (None, true) => self.about(kinds, rename.subname.clone()),
        }
    }

    pub(super) fn alter_owner(&mut self, alter: &AlterOwnerStmt) {
        self.effect(Privilege);
        let name = alter.object.as_deref().map(object_name).unwrap_or_default();
        let kinds = kinds_of(alter.object_type);
        self.about(kinds, name.clone());
        self.about(&[Privilege], name);
    }

    pub(super) fn alter_schema(&mut self, alter: &AlterObjectSchemaStmt) {
        let kinds = kinds_of(alter.object_type);
        match &alter.relation {
            Some(relation) => kinds.iter().for_each(|kind| self.names(*kind, relation)),
            None => self.about(kinds, alter.object.as_deref().map(object_name).unwrap_or_default()),
        }
    }

    pub(super) fn comment(&mut self, comment: &CommentStmt) {
        self.about(&[Ddl], comment.object.as_deref().map(object_name).unwrap_or_default());
    }

    pub(super) fn grant(&mut self, grant: &GrantStmt) {
        self.effect(Privilege);
        for object in &grant.objects {
            self.about(&[Privilege], object_name(object));
        }
    }

    pub(super) fn roles(&mut self, roles: &[Node]) {
        self.effect(Privilege);
        for role in roles {
            self.about(&[Privilege], object_name(role));
        }
    }

    pub(super) fn role(&mut self, role: Option<&RoleSpec>) {
        self.about(&[Privilege], role.map_or("", |role| role.rolename.as_str()));
    }
}

/// What changing an object of this type is. Types that the server or its administrators own are `admin` too.
fn kinds_of(object_type: i32) -> &'static [EffectKind] {
    match ObjectType::try_from(object_type) {
        Ok(ObjectType::ObjectExtension | ObjectType::ObjectFdw | ObjectType::ObjectForeignServer) => &[Admin],
        Ok(ObjectType::ObjectUserMapping | ObjectType::ObjectSubscription) => &[Admin],
        Ok(
            ObjectType::ObjectDatabase
            | ObjectType::ObjectTablespace
            | ObjectType::ObjectAccessMethod
            | ObjectType::ObjectLanguage
            | ObjectType::ObjectPublication
            | ObjectType::ObjectForeignTable
            | ObjectType::ObjectEventTrigger,
        ) => &[Ddl, Admin],
        Ok(ObjectType::ObjectPolicy) => &[Ddl, Privilege],
        Ok(ObjectType::ObjectRole) => &[Privilege],
        Ok(ObjectType::Undefined) | Err(_) => &[Ddl, EffectKind::Unknown],
        _ => &[Ddl],
    }
}

/// The name of an object in the shapes that the grammar gives names in.
fn object_name(object: &Node) -> String {
    match &object.node {
        Some(NodeEnum::String(name)) => qualified("", &name.sval),
        Some(NodeEnum::List(list)) => dotted(&list.items),
        Some(NodeEnum::RangeVar(relation)) => super::walk::relation_name(relation),
        Some(NodeEnum::ObjectWithArgs(object)) => dotted(&object.objname),
        Some(NodeEnum::TypeName(name)) => dotted(&name.names),
        Some(NodeEnum::RoleSpec(role)) => role.rolename.clone(),
        Some(NodeEnum::AccessPriv(right)) => right.priv_name.clone(),
        _other => String::new(),
    }
}
