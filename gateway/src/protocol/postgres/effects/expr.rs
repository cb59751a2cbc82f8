//! Expressions: operators, casts, constructors, and the SQL/JSON and XML forms.

use super::catalog;
use super::walk::{Walk, dotted, parts};
use countersign_infra::domain::effect::EffectKind;
use pg_query::protobuf::{
    AExpr, AExprKind, AIndices, AIndirection, CaseExpr, CaseWhen, ColumnDef, JsonAggConstructor, JsonArrayAgg,
    JsonArrayConstructor, JsonArrayQueryConstructor, JsonBehavior, JsonFuncExpr, JsonKeyValue, JsonObjectAgg,
    JsonObjectConstructor, JsonOutput, JsonParseExpr, JsonScalarExpr, JsonSerializeExpr, JsonValueExpr, Node,
    ResTarget, SortBy, SubLink, TypeCast, TypeName, XmlExpr, XmlSerialize,
};

impl Walk {
    pub(super) fn a_expr(&mut self, expr: &AExpr) {
        let AExpr {
            kind,
            name,
            lexpr,
            rexpr,
            location: _,
            rexpr_list_start: _,
            rexpr_list_end: _,
        } = expr;
        // BETWEEN stands for >= and <= of pg_catalog's search, and its "name" is the keyword.
        let keyword = matches!(
            AExprKind::try_from(*kind),
            Ok(AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym)
        );
        if !keyword {
            self.operator(name);
        }
        self.child(lexpr.as_deref());
        self.child(rexpr.as_deref());
    }

    pub(super) fn operator(&mut self, name: &[Node]) {
        match parts(name).as_slice() {
            [] => {}
            [operator] | [.., "pg_catalog", operator] if catalog::is_operator(operator) => {}
            _ => self.object(EffectKind::Call, dotted(name)),
        }
    }

    pub(super) fn type_cast(&mut self, cast: &TypeCast) {
        let TypeCast {
            arg,
            type_name,
            location: _,
        } = cast;
        self.child(arg.as_deref());
        self.maybe_type(type_name.as_ref());
    }

    /// A type that values are made of here: one outside `pg_catalog` may run code of its own (a domain's check, a cast).
    pub(super) fn type_name(&mut self, name: &TypeName) {
        let TypeName {
            names,
            type_oid: _,
            setof: _,
            pct_type,
            typmods,
            typemod: _,
            array_bounds: _,
            location: _,
        } = name;
        let known = match parts(names).as_slice() {
            [name] | [.., "pg_catalog", name] => catalog::is_type(name),
            [.., "information_schema", _] => true,
            _ => false,
        };
        if !known || *pct_type {
            self.object(EffectKind::Call, dotted(names));
        }
        self.children(typmods);
    }

    pub(super) fn maybe_type(&mut self, name: Option<&TypeName>) {
        if let Some(name) = name {
            self.type_name(name);
        }
    }

    /// A column of a row type that a query makes, as in `AS x(a int)`.
    pub(super) fn column_def(&mut self, column: &ColumnDef) {
        self.maybe_type(column.type_name.as_ref());
        self.child(column.raw_default.as_deref());
        self.children(&column.constraints);
    }

    pub(super) fn sub_link(&mut self, link: &SubLink) {
        let SubLink {
            xpr,
            sub_link_type: _,
            sub_link_id: _,
            testexpr,
            oper_name,
            subselect,
            location: _,
        } = link;
        self.child(xpr.as_deref());
        self.operator(oper_name);
        self.child(testexpr.as_deref());
        self.child(subselect.as_deref());
    }

    pub(super) fn case(&mut self, case: &CaseExpr) {
        let CaseExpr {
            xpr,
            casetype: _,
            casecollid: _,
            arg,
            args,
            defresult,
            location: _,
        } = case;
        self.child(xpr.as_deref());
        self.child(arg.as_deref());
        self.children(args);
        self.child(defresult.as_deref());
    }

    pub(super) fn case_when(&mut self, when: &CaseWhen) {
        let CaseWhen {
            xpr,
            expr,
            result,
            location: _,
        } = when;
        self.child(xpr.as_deref());
        self.child(expr.as_deref());
        self.child(result.as_deref());
    }

    pub(super) fn indices(&mut self, indices: &AIndices) {
        let AIndices {
            is_slice: _,
            lidx,
            uidx,
        } = indices;
        self.child(lidx.as_deref());
        self.child(uidx.as_deref());
    }

    pub(super) fn indirection(&mut self, indirection: &AIndirection) {
        let AIndirection { arg, indirection } = indirection;
        self.child(arg.as_deref());
        self.children(indirection);
    }

    pub(super) fn res_target(&mut self, target: &ResTarget) {
        let ResTarget {
            name: _,
            indirection,
            val,
            location: _,
        } = target;
        self.children(indirection);
        self.child(val.as_deref());
    }

    pub(super) fn sort_by(&mut self, sort: &SortBy) {
        let SortBy {
            node,
            sortby_dir: _,
            sortby_nulls: _,
            use_op,
            location: _,
        } = sort;
        self.operator(use_op);
        self.child(node.as_deref());
    }

    pub(super) fn xml(&mut self, xml: &XmlExpr) {
        self.children(&xml.named_args);
        self.children(&xml.arg_names);
        self.children(&xml.args);
    }

    pub(super) fn xml_serialize(&mut self, serialize: &XmlSerialize) {
        self.child(serialize.expr.as_deref());
        self.maybe_type(serialize.type_name.as_ref());
    }

    pub(super) fn json_value(&mut self, value: Option<&JsonValueExpr>) {
        if let Some(JsonValueExpr {
            raw_expr,
            formatted_expr,
            format: _,
        }) = value
        {
            self.child(raw_expr.as_deref());
            self.child(formatted_expr.as_deref());
        }
    }

    pub(super) fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) {
        if let Some(JsonBehavior {
            btype: _,
            expr,
            coerce: _,
            location: _,
        }) = behavior
        {
            self.child(expr.as_deref());
        }
    }

    pub(super) fn json_output(&mut self, output: Option<&JsonOutput>) {
        if let Some(JsonOutput {
            type_name,
            returning: _,
        }) = output
        {
            self.maybe_type(type_name.as_ref());
        }
    }

    pub(super) fn json_func(&mut self, json: &JsonFuncExpr) {
        self.json_value(json.context_item.as_deref());
        self.child(json.pathspec.as_deref());
        self.children(&json.passing);
        self.json_output(json.output.as_ref());
        self.json_behavior(json.on_empty.as_deref());
        self.json_behavior(json.on_error.as_deref());
    }

    pub(super) fn json_key_value(&mut self, pair: Option<&JsonKeyValue>) {
        if let Some(JsonKeyValue { key, value }) = pair {
            self.child(key.as_deref());
            self.json_value(value.as_deref());
        }
    }

    pub(super) fn json_parse(&mut self, json: &JsonParseExpr) {
        self.json_value(json.expr.as_deref());
        self.json_output(json.output.as_ref());
    }

    pub(super) fn json_scalar(&mut self, json: &JsonScalarExpr) {
        self.child(json.expr.as_deref());
        self.json_output(json.output.as_ref());
    }

    pub(super) fn json_serialize(&mut self, json: &JsonSerializeExpr) {
        self.json_value(json.expr.as_deref());
        self.json_output(json.output.as_ref());
    }

    pub(super) fn json_object(&mut self, json: &JsonObjectConstructor) {
        self.children(&json.exprs);
        self.json_output(json.output.as_ref());
    }

    pub(super) fn json_array(&mut self, json: &JsonArrayConstructor) {
        self.children(&json.exprs);
        self.json_output(json.output.as_ref());
    }

    pub(super) fn json_array_query(&mut self, json: &JsonArrayQueryConstructor) {
        self.child(json.query.as_deref());
        self.json_output(json.output.as_ref());
    }

    pub(super) fn json_object_agg(&mut self, json: &JsonObjectAgg) {
        self.json_agg(json.constructor.as_deref());
        self.json_key_value(json.arg.as_deref());
    }

    pub(super) fn json_array_agg(&mut self, json: &JsonArrayAgg) {
        self.json_agg(json.constructor.as_deref());
        self.json_value(json.arg.as_deref());
    }

    pub(super) fn json_agg(&mut self, constructor: Option<&JsonAggConstructor>) {
        let Some(JsonAggConstructor {
            output,
            agg_filter,
            agg_order,
            over,
            location: _,
        }) = constructor
        else {
            return;
        };
        self.json_output(output.as_ref());
        self.child(agg_filter.as_deref());
        self.children(agg_order);
        if let Some(over) = over.as_deref() {
            self.window(over);
        }
    }
}
