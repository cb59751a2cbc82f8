//! The whole list of the parser's nodes. Nothing is left to a default: a node that no rule is written for is `unknown`.

use super::Role;
use super::walk::{Walk, dotted};
use countersign_infra::domain::effect::EffectKind::{
    Admin, Call, Ddl, Privilege, Read, Session, Transaction, Unknown, Write,
};
use pg_query::NodeEnum;

impl Walk {
    pub(super) fn node(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::AExpr(x) => self.a_expr(x),
            NodeEnum::TypeCast(x) => self.type_cast(x),
            NodeEnum::FuncCall(x) => self.func_call(x),
            NodeEnum::SubLink(x) => self.sub_link(x),
            NodeEnum::CaseExpr(x) => self.case(x),
            NodeEnum::CaseWhen(x) => self.case_when(x),
            NodeEnum::BoolExpr(x) => self.children(&x.args),
            NodeEnum::RowExpr(x) => self.children(&x.args),
            NodeEnum::CoalesceExpr(x) => self.children(&x.args),
            NodeEnum::MinMaxExpr(x) => self.children(&x.args),
            NodeEnum::GroupingFunc(x) => self.children(&x.args),
            NodeEnum::NullTest(x) => self.child(x.arg.as_deref()),
            NodeEnum::BooleanTest(x) => self.child(x.arg.as_deref()),
            NodeEnum::CollateClause(x) => self.child(x.arg.as_deref()),
            NodeEnum::NamedArgExpr(x) => self.child(x.arg.as_deref()),
            NodeEnum::DefElem(x) => self.child(x.arg.as_deref()),
            NodeEnum::AArrayExpr(x) => self.children(&x.elements),
            NodeEnum::AIndirection(x) => self.indirection(x),
            NodeEnum::AIndices(x) => self.indices(x),
            NodeEnum::ResTarget(x) => self.res_target(x),
            NodeEnum::MultiAssignRef(x) => self.child(x.source.as_deref()),
            NodeEnum::SortBy(x) => self.sort_by(x),
            NodeEnum::WindowDef(x) => self.window(x),
            NodeEnum::List(x) => self.children(&x.items),
            NodeEnum::TypeName(x) => self.type_name(x),
            NodeEnum::XmlExpr(x) => self.xml(x),
            NodeEnum::XmlSerialize(x) => self.xml_serialize(x),
            NodeEnum::GroupingSet(x) => self.children(&x.content),
            NodeEnum::IndexElem(x) => self.index_elem(x),
            NodeEnum::ColumnDef(x) => self.column_def(x),
            NodeEnum::Constraint(x) => self.checked(x),
            NodeEnum::PartitionRangeDatum(x) => self.child(x.value.as_deref()),
            NodeEnum::JsonValueExpr(x) => self.json_value(Some(x)),
            NodeEnum::JsonIsPredicate(x) => self.child(x.expr.as_deref()),
            NodeEnum::JsonBehavior(x) => self.json_behavior(Some(x)),
            NodeEnum::JsonOutput(x) => self.json_output(Some(x)),
            NodeEnum::JsonArgument(x) => self.json_value(x.val.as_deref()),
            NodeEnum::JsonFuncExpr(x) => self.json_func(x),
            NodeEnum::JsonTablePathSpec(x) => self.json_path(Some(x)),
            NodeEnum::JsonTable(x) => self.json_table(x),
            NodeEnum::JsonTableColumn(x) => self.json_table_column(x),
            NodeEnum::JsonKeyValue(x) => self.json_key_value(Some(x)),
            NodeEnum::JsonParseExpr(x) => self.json_parse(x),
            NodeEnum::JsonScalarExpr(x) => self.json_scalar(x),
            NodeEnum::JsonSerializeExpr(x) => self.json_serialize(x),
            NodeEnum::JsonObjectConstructor(x) => self.json_object(x),
            NodeEnum::JsonArrayConstructor(x) => self.json_array(x),
            NodeEnum::JsonArrayQueryConstructor(x) => self.json_array_query(x),
            NodeEnum::JsonAggConstructor(x) => self.json_agg(Some(x)),
            NodeEnum::JsonObjectAgg(x) => self.json_object_agg(x),
            NodeEnum::JsonArrayAgg(x) => self.json_array_agg(x),
            NodeEnum::RangeVar(x) => self.reads(x),
            NodeEnum::RangeSubselect(x) => self.range_subselect(x),
            NodeEnum::RangeFunction(x) => self.range_function(x),
            NodeEnum::RangeTableFunc(x) => self.range_table_func(x),
            NodeEnum::RangeTableFuncCol(x) => self.range_table_func_col(x),
            NodeEnum::RangeTableSample(x) => self.table_sample(x),
            NodeEnum::JoinExpr(x) => self.join(x),
            NodeEnum::CommonTableExpr(x) => self.common_table(x),
            NodeEnum::SelectStmt(x) => self.select(x),
            NodeEnum::InsertStmt(x) => self.insert(x),
            NodeEnum::UpdateStmt(x) => self.update(x),
            NodeEnum::DeleteStmt(x) => self.delete(x),
            NodeEnum::MergeStmt(x) => self.merge(x),
            NodeEnum::MergeWhenClause(x) => self.merge_when(x),
            NodeEnum::TruncateStmt(x) => self.truncate(x),
            NodeEnum::CopyStmt(x) => self.copy(x),
            NodeEnum::ReturnStmt(x) => self.child(x.returnval.as_deref()),
            NodeEnum::RawStmt(x) => self.child(x.stmt.as_deref()),
            NodeEnum::TransactionStmt(x) => self.transaction(x),
            NodeEnum::VariableSetStmt(x) => self.set(x),
            NodeEnum::VariableShowStmt(_) => self.effect(Read),
            NodeEnum::DiscardStmt(x) => self.discard(x),
            NodeEnum::LockStmt(x) => self.lock(x),
            NodeEnum::PrepareStmt(x) => self.prepare(x),
            NodeEnum::ExecuteStmt(x) => self.execute(x, false),
            NodeEnum::DeclareCursorStmt(x) => self.declare(x),
            NodeEnum::FetchStmt(x) => self.fetch(x),
            NodeEnum::ExplainStmt(x) => self.explain(x),
            NodeEnum::CreateTableAsStmt(x) => self.create_table_as(x),
            NodeEnum::CallStmt(x) => self.call(x),
            NodeEnum::VacuumStmt(x) => self.vacuum(x),
            NodeEnum::ReindexStmt(x) => self.reindex(x),
            NodeEnum::ClusterStmt(x) => self.cluster(x),
            NodeEnum::DeallocateStmt(x) => {
                self.effect(Session);
                self.role = Role::Deallocate {
                    name: (!x.isall).then(|| x.name.clone()),
                };
            }
            NodeEnum::ClosePortalStmt(x) => {
                self.effect(Session);
                self.role = Role::Close {
                    name: Some(x.portalname.clone()).filter(|name| !name.is_empty()),
                };
            }
            NodeEnum::ConstraintsSetStmt(_) => {
                self.effect(Session);
                self.effect(Transaction);
            }
            NodeEnum::NotifyStmt(x) => self.about(&[Session], x.conditionname.clone()),
            NodeEnum::ListenStmt(x) => self.about(&[Session], x.conditionname.clone()),
            NodeEnum::UnlistenStmt(x) => self.about(&[Session], x.conditionname.clone()),
            NodeEnum::DoStmt(_) => self.effect(Call),
            NodeEnum::LoadStmt(x) => self.about(&[Admin], x.filename.clone()),
            NodeEnum::CheckPointStmt(_) => self.effect(Admin),
            NodeEnum::AlterSystemStmt(x) => {
                self.about(&[Admin], x.setstmt.as_ref().map_or("", |set| set.name.as_str()))
            }
            NodeEnum::CreateStmt(x) => self.create_table(x),
            NodeEnum::CreateForeignTableStmt(x) => self.create_foreign_table(x),
            NodeEnum::CreateSchemaStmt(x) => self.create_schema(x),
            NodeEnum::IndexStmt(x) => self.create_index(x),
            NodeEnum::AlterTableStmt(x) => self.alter_table(x),
            NodeEnum::AlterTableCmd(x) => self.alter_table_cmd(x, "", 0),
            NodeEnum::AlterDomainStmt(x) => self.alter_domain(x),
            NodeEnum::DropStmt(x) => self.drop_objects(x),
            NodeEnum::RenameStmt(x) => self.rename(x),
            NodeEnum::AlterOwnerStmt(x) => self.alter_owner(x),
            NodeEnum::AlterObjectSchemaStmt(x) => self.alter_schema(x),
            NodeEnum::CommentStmt(x) => self.comment(x),
            NodeEnum::ViewStmt(x) => self.defines(x.view.as_ref()),
            NodeEnum::RuleStmt(x) => self.defines(x.relation.as_ref()),
            NodeEnum::CreateTrigStmt(x) => self.defines(x.relation.as_ref()),
            NodeEnum::CreateSeqStmt(x) => self.defines(x.sequence.as_ref()),
            NodeEnum::AlterSeqStmt(x) => self.defines(x.sequence.as_ref()),
            NodeEnum::CompositeTypeStmt(x) => self.defines(x.typevar.as_ref()),
            NodeEnum::CreateFunctionStmt(x) => self.defines_name(&x.funcname),
            NodeEnum::AlterFunctionStmt(x) => self.about(
                &[Ddl],
                x.func.as_ref().map(|func| dotted(&func.objname)).unwrap_or_default(),
            ),
            NodeEnum::DefineStmt(x) => self.defines_name(&x.defnames),
            NodeEnum::CreateStatsStmt(x) => self.defines_name(&x.defnames),
            NodeEnum::AlterStatsStmt(x) => self.defines_name(&x.defnames),
            NodeEnum::CreateDomainStmt(x) => self.defines_name(&x.domainname),
            NodeEnum::CreateEnumStmt(x) => self.defines_name(&x.type_name),
            NodeEnum::CreateRangeStmt(x) => self.defines_name(&x.type_name),
            NodeEnum::AlterEnumStmt(x) => self.defines_name(&x.type_name),
            NodeEnum::AlterTypeStmt(x) => self.defines_name(&x.type_name),
            NodeEnum::AlterCollationStmt(x) => self.defines_name(&x.collname),
            NodeEnum::CreateConversionStmt(x) => self.defines_name(&x.conversion_name),
            NodeEnum::CreateOpClassStmt(x) => self.defines_name(&x.opclassname),
            NodeEnum::CreateOpFamilyStmt(x) => self.defines_name(&x.opfamilyname),
            NodeEnum::AlterOpFamilyStmt(x) => self.defines_name(&x.opfamilyname),
            NodeEnum::AlterOperatorStmt(x) => self.about(
                &[Ddl],
                x.opername
                    .as_ref()
                    .map(|name| dotted(&name.objname))
                    .unwrap_or_default(),
            ),
            NodeEnum::CreateCastStmt(x) => self.about(
                &[Ddl],
                x.targettype
                    .as_ref()
                    .map(|name| dotted(&name.names))
                    .unwrap_or_default(),
            ),
            NodeEnum::CreateTransformStmt(x) => self.about(&[Ddl], x.lang.clone()),
            NodeEnum::AlterTsdictionaryStmt(x) => self.defines_name(&x.dictname),
            NodeEnum::AlterTsconfigurationStmt(x) => self.defines_name(&x.cfgname),
            NodeEnum::AlterObjectDependsStmt(_) => self.effect(Ddl),
            NodeEnum::RefreshMatViewStmt(x) => {
                self.defines(x.relation.as_ref());
                self.effect(Write);
                if let Some(relation) = &x.relation {
                    self.names(Write, relation);
                }
            }
            NodeEnum::CreatePolicyStmt(x) => {
                self.defines(x.table.as_ref());
                self.effect(Privilege);
            }
            NodeEnum::AlterPolicyStmt(x) => {
                self.defines(x.table.as_ref());
                self.effect(Privilege);
            }
            NodeEnum::CreateAmStmt(x) => self.about(&[Ddl, Admin], x.amname.clone()),
            NodeEnum::CreatePlangStmt(x) => self.about(&[Ddl, Admin], x.plname.clone()),
            NodeEnum::CreateEventTrigStmt(x) => self.about(&[Ddl, Admin], x.trigname.clone()),
            NodeEnum::AlterEventTrigStmt(x) => self.about(&[Ddl, Admin], x.trigname.clone()),
            NodeEnum::CreateTableSpaceStmt(x) => self.about(&[Ddl, Admin], x.tablespacename.clone()),
            NodeEnum::DropTableSpaceStmt(x) => self.about(&[Ddl, Admin], x.tablespacename.clone()),
            NodeEnum::AlterTableSpaceOptionsStmt(x) => self.about(&[Ddl, Admin], x.tablespacename.clone()),
            NodeEnum::AlterTableMoveAllStmt(x) => self.about(&[Ddl, Admin], x.orig_tablespacename.clone()),
            NodeEnum::CreatedbStmt(x) => self.about(&[Ddl, Admin], x.dbname.clone()),
            NodeEnum::AlterDatabaseStmt(x) => self.about(&[Ddl, Admin], x.dbname.clone()),
            NodeEnum::AlterDatabaseRefreshCollStmt(x) => self.about(&[Ddl, Admin], x.dbname.clone()),
            NodeEnum::AlterDatabaseSetStmt(x) => self.about(&[Ddl, Admin], x.dbname.clone()),
            NodeEnum::DropdbStmt(x) => self.about(&[Ddl, Admin], x.dbname.clone()),
            NodeEnum::CreatePublicationStmt(x) => self.about(&[Ddl, Admin], x.pubname.clone()),
            NodeEnum::AlterPublicationStmt(x) => self.about(&[Ddl, Admin], x.pubname.clone()),
            NodeEnum::CreateExtensionStmt(x) => self.about(&[Admin], x.extname.clone()),
            NodeEnum::AlterExtensionStmt(x) => self.about(&[Admin], x.extname.clone()),
            NodeEnum::AlterExtensionContentsStmt(x) => self.about(&[Admin], x.extname.clone()),
            NodeEnum::CreateFdwStmt(x) => self.about(&[Admin], x.fdwname.clone()),
            NodeEnum::AlterFdwStmt(x) => self.about(&[Admin], x.fdwname.clone()),
            NodeEnum::CreateForeignServerStmt(x) => self.about(&[Admin], x.servername.clone()),
            NodeEnum::AlterForeignServerStmt(x) => self.about(&[Admin], x.servername.clone()),
            NodeEnum::CreateUserMappingStmt(x) => self.about(&[Admin], x.servername.clone()),
            NodeEnum::AlterUserMappingStmt(x) => self.about(&[Admin], x.servername.clone()),
            NodeEnum::DropUserMappingStmt(x) => self.about(&[Admin], x.servername.clone()),
            NodeEnum::ImportForeignSchemaStmt(x) => self.about(&[Admin], x.server_name.clone()),
            NodeEnum::CreateSubscriptionStmt(x) => self.about(&[Admin], x.subname.clone()),
            NodeEnum::AlterSubscriptionStmt(x) => self.about(&[Admin], x.subname.clone()),
            NodeEnum::DropSubscriptionStmt(x) => self.about(&[Admin], x.subname.clone()),
            NodeEnum::GrantStmt(x) => self.grant(x),
            NodeEnum::GrantRoleStmt(x) => self.roles(&x.granted_roles),
            NodeEnum::AlterDefaultPrivilegesStmt(_) | NodeEnum::SecLabelStmt(_) => self.effect(Privilege),
            NodeEnum::CreateRoleStmt(x) => self.about(&[Privilege], x.role.clone()),
            NodeEnum::AlterRoleStmt(x) => self.role(x.role.as_ref()),
            NodeEnum::AlterRoleSetStmt(x) => self.role(x.role.as_ref()),
            NodeEnum::DropRoleStmt(x) => self.roles(&x.roles),
            NodeEnum::ReassignOwnedStmt(x) => self.roles(&x.roles),
            NodeEnum::DropOwnedStmt(x) => {
                self.effect(Ddl);
                self.roles(&x.roles);
            }
            NodeEnum::ColumnRef(x) => self.column_ref(&x.fields),
            NodeEnum::ParamRef(x) => self.parameter(x.number),
            NodeEnum::AConst(x) => self.constant(x),
            // Names, constants and options: nothing runs.
            NodeEnum::AStar(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::String(_)
            | NodeEnum::BitString(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::RoleSpec(_)
            | NodeEnum::Alias(_)
            | NodeEnum::ReturningOption(_)
            | NodeEnum::CtesearchClause(_)
            | NodeEnum::JsonFormat(_)
            | NodeEnum::LockingClause(_)
            | NodeEnum::PublicationObjSpec(_) => {}
            // What the parser does not hand out in these places, or not at all.
            NodeEnum::TableFunc(_)
            | NodeEnum::IntoClause(_)
            | NodeEnum::Var(_)
            | NodeEnum::Param(_)
            | NodeEnum::Aggref(_)
            | NodeEnum::WindowFunc(_)
            | NodeEnum::WindowFuncRunCondition(_)
            | NodeEnum::SubscriptingRef(_)
            | NodeEnum::FuncExpr(_)
            | NodeEnum::OpExpr(_)
            | NodeEnum::DistinctExpr(_)
            | NodeEnum::NullIfExpr(_)
            | NodeEnum::ScalarArrayOpExpr(_)
            | NodeEnum::SubPlan(_)
            | NodeEnum::AlternativeSubPlan(_)
            | NodeEnum::FieldSelect(_)
            | NodeEnum::FieldStore(_)
            | NodeEnum::RelabelType(_)
            | NodeEnum::CoerceViaIo(_)
            | NodeEnum::ArrayCoerceExpr(_)
            | NodeEnum::ConvertRowtypeExpr(_)
            | NodeEnum::CollateExpr(_)
            | NodeEnum::CaseTestExpr(_)
            | NodeEnum::ArrayExpr(_)
            | NodeEnum::RowCompareExpr(_)
            | NodeEnum::JsonReturning(_)
            | NodeEnum::JsonConstructorExpr(_)
            | NodeEnum::JsonExpr(_)
            | NodeEnum::JsonTablePath(_)
            | NodeEnum::JsonTablePathScan(_)
            | NodeEnum::JsonTableSiblingJoin(_)
            | NodeEnum::MergeAction(_)
            | NodeEnum::CoerceToDomain(_)
            | NodeEnum::CoerceToDomainValue(_)
            | NodeEnum::NextValueExpr(_)
            | NodeEnum::InferenceElem(_)
            | NodeEnum::ReturningExpr(_)
            | NodeEnum::TargetEntry(_)
            | NodeEnum::RangeTblRef(_)
            | NodeEnum::FromExpr(_)
            | NodeEnum::OnConflictExpr(_)
            | NodeEnum::Query(_)
            | NodeEnum::TableLikeClause(_)
            | NodeEnum::PartitionElem(_)
            | NodeEnum::PartitionSpec(_)
            | NodeEnum::PartitionBoundSpec(_)
            | NodeEnum::PartitionCmd(_)
            | NodeEnum::RangeTblEntry(_)
            | NodeEnum::RtepermissionInfo(_)
            | NodeEnum::RangeTblFunction(_)
            | NodeEnum::TableSampleClause(_)
            | NodeEnum::WithCheckOption(_)
            | NodeEnum::SortGroupClause(_)
            | NodeEnum::WindowClause(_)
            | NodeEnum::RowMarkClause(_)
            | NodeEnum::WithClause(_)
            | NodeEnum::InferClause(_)
            | NodeEnum::OnConflictClause(_)
            | NodeEnum::CtecycleClause(_)
            | NodeEnum::ReturningClause(_)
            | NodeEnum::TriggerTransition(_)
            | NodeEnum::SetOperationStmt(_)
            | NodeEnum::PlassignStmt(_)
            | NodeEnum::AtalterConstraint(_)
            | NodeEnum::ReplicaIdentityStmt(_)
            | NodeEnum::ObjectWithArgs(_)
            | NodeEnum::AccessPriv(_)
            | NodeEnum::CreateOpClassItem(_)
            | NodeEnum::StatsElem(_)
            | NodeEnum::FunctionParameter(_)
            | NodeEnum::InlineCodeBlock(_)
            | NodeEnum::CallContext(_)
            | NodeEnum::VacuumRelation(_)
            | NodeEnum::PublicationTable(_)
            | NodeEnum::IntList(_)
            | NodeEnum::OidList(_) => self.effect(Unknown),
        }
    }
}
