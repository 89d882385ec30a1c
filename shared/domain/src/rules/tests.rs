//! Rules as a whole: what a document may say, which rule applies, and that what cannot be judged is asked more strictly.

use std::cell::Cell;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{ParseError, Priority};

fn parse(rules: &Value) -> Result<RulesDocument, ParseError> {
    RulesDocument::parse(json!({"rules": rules, "note": "Why"}).to_string().as_bytes())
}

fn rules(rules: &Value) -> Rules {
    parse(rules).unwrap().rules
}

fn faults(rules: &Value) -> Vec<String> {
    match parse(rules) {
        Err(ParseError::Invalid(faults)) => {
            let mut pointers: Vec<_> = faults.listed().iter().map(|fault| fault.pointer.clone()).collect();
            pointers.sort_unstable();
            pointers
        }
        other => panic!("{rules}: {other:?}"),
    }
}

fn rule(name: &str, of: &Value, ask: &Value) -> Value {
    json!({"name": name, "mode": "enforce", "match": of, "then": {"ask": ask}})
}

const FACTS: Facts<'static> = Facts {
    agent_id: "billing",
    action_type: "refund.create",
    priority: Priority::P2,
    group: Some("turn-1"),
    on_behalf_of: Some("Maria@Example.com"),
};

fn judge(rules: &Rules, arguments: &Value) -> Option<Applied> {
    rules.judge(&FACTS, || Json::parse(arguments.to_string().as_bytes()).unwrap())
}

/// The name of what applies, whether it failed, and the approvals.
fn verdict(rules: &Rules, arguments: &Value) -> Option<(String, bool, Option<i32>)> {
    judge(rules, arguments)
        .map(|applied| (applied.rule.to_string(), applied.failed, applied.ask.approvals.map(|whole| whole.0)))
}

#[test]
fn every_fault_is_found_at_its_place() {
    let found = faults(&json!([
        {"name": "", "mode": "on", "match": {"agents": [], "action_types": ["a*b"], "priorities": ["P4"], "more": 1},
            "then": {"ask": {"approvals": 11, "groups": [], "on_timeout": "auto_approve", "permit_seconds": 9, "more": 1}}},
        {"name": "b", "mode": "enforce", "match": {"arguments": {"amount": {"gt": 1}, "/a~2": {"gt": 1}, "/b~1c": {"lt": "x"},
            "/d": {"like": 1}, "/e": {"in": []}, "/f": {"length_lte": -1}, "/g": {}, "/h": 5, "/i": {"exists": 1}}},
            "then": {"ask": {}}},
        {"name": "c", "mode": "enforce", "match": {"arguments": []}, "then": {}},
        {"name": "d", "mode": "enforce", "match": {"on_behalf_of": "all"}, "then": {"ask": {"escalate": {"after_percent": 100}}}},
    ]));
    let expected = [
        "/rules/0/match/action_types/0",
        "/rules/0/match/agents",
        "/rules/0/match/more",
        "/rules/0/match/priorities/0",
        "/rules/0/mode",
        "/rules/0/name",
        "/rules/0/then/ask/approvals",
        "/rules/0/then/ask/groups",
        "/rules/0/then/ask/more",
        "/rules/0/then/ask/on_timeout",
        "/rules/0/then/ask/permit_seconds",
        "/rules/1/match/arguments/amount",
        "/rules/1/match/arguments/~1a~02",
        "/rules/1/match/arguments/~1b~01c/lt",
        "/rules/1/match/arguments/~1d/like",
        "/rules/1/match/arguments/~1e/in",
        "/rules/1/match/arguments/~1f/length_lte",
        "/rules/1/match/arguments/~1g",
        "/rules/1/match/arguments/~1h",
        "/rules/1/match/arguments/~1i/exists",
        "/rules/2/match/arguments",
        "/rules/3/match/on_behalf_of",
        "/rules/3/then/ask/escalate/after_percent",
        "/rules/3/then/ask/escalate/groups",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_rule_has_one_name_and_one_effect() {
    let two = |then: Value| json!([{"name": "a", "mode": "enforce", "match": {}, "then": then}]);
    assert_eq!(faults(&two(json!({}))), ["/rules/0/then"]);
    assert_eq!(faults(&two(json!({"ask": {}, "decide": "reject", "reason": "x"}))), ["/rules/0/then"]);
    assert_eq!(
        faults(&two(json!({"ask": {}, "reason": "x", "at_most": {"count": 1, "per_seconds": 1}}))),
        ["/rules/0/then/at_most", "/rules/0/then/reason"]
    );
    assert_eq!(faults(&two(json!({"decide": "reject"}))), ["/rules/0/then/decide", "/rules/0/then/reason"]);
    let twice = json!([rule("a", &json!({}), &json!({})), rule("a", &json!({}), &json!({}))]);
    assert_eq!(faults(&twice), ["/rules/1/name"]);
    // One that does not act may decide already.
    let shadow = json!([{"name": "a", "mode": "shadow", "match": {}, "then": {"decide": "approve", "reason": "x"}}]);
    assert!(rules(&shadow).is_empty());
}

#[test]
fn a_document_has_bounds() {
    let many = |count: usize| Value::Array((0..count).map(|n| rule(&n.to_string(), &json!({}), &json!({}))).collect());
    assert_eq!(rules(&many(MAX_RULES)).len(), MAX_RULES);
    assert_eq!(faults(&many(MAX_RULES + 1)), ["/rules"]);
    let long = json!([rule("a", &json!({"arguments": {"/a": {"equals": "x".repeat(MAX_RULES_BYTES)}}}), &json!({}))]);
    assert_eq!(faults(&long), ["/rules"]);
}

#[test]
fn what_is_stored_is_read_again_with_its_literals() {
    let text = r#"{"note":"n","rules":[{"name":"a","mode":"enforce","match":{"arguments":{"/a":{"gte":1.50}}},"then":{"ask":{"approvals":2}}}]}"#;
    let document = RulesDocument::parse(text.as_bytes()).unwrap();
    let stored = std::str::from_utf8(&document.text).unwrap();
    assert!(stored.contains("1.50"), "{stored}");
    let again = RulesDocument::stored(&document.text).unwrap();
    assert_eq!(verdict(&again, &json!({"a": "1.5"})), Some(("a".into(), false, Some(2))));
}

#[test]
fn all_that_is_named_must_hold() {
    for (of, holds) in [
        (json!({}), true),
        (json!({"agents": ["billing", "x"]}), true),
        (json!({"agents": ["x"]}), false),
        (json!({"action_types": ["refund.*"]}), true),
        (json!({"action_types": ["refund.create"]}), true),
        (json!({"action_types": ["*"]}), true),
        (json!({"action_types": ["refund", "refund.create.*", "Refund.create"]}), false),
        (json!({"priorities": ["P1", "P2"]}), true),
        (json!({"priorities": ["P3"]}), false),
        (json!({"groups": ["turn-1"]}), true),
        (json!({"groups": ["turn-2"]}), false),
        (json!({"on_behalf_of": "present"}), true),
        (json!({"on_behalf_of": "absent"}), false),
        (json!({"on_behalf_of": ["maria@example.COM"]}), true),
        (json!({"on_behalf_of": ["jonas"]}), false),
        (json!({"agents": ["billing"], "priorities": ["P3"]}), false),
        (json!({"arguments": {"/amount": {"gte": 1000, "lt": "1240.01"}, "/currency": {"in": ["EUR", "USD"]}}}), true),
        (json!({"arguments": {"/amount": {"lt": 1000}}}), false),
        (json!({"arguments": {"/lines/1/sku": {"prefix": "B"}}}), true),
        (json!({"arguments": {"/lines": {"length_lte": 1}}}), false),
        (json!({"arguments": {"/memo": {"exists": false}}}), true),
        (json!({"arguments": {"/memo": {"exists": true, "equals": "x"}}}), false),
        (json!({"arguments": {"/a~1b": {"equals": true}}}), true),
        (json!({"not": {"arguments": {"/currency": {"equals": "EUR"}}}}), false),
        (json!({"not": {"arguments": {"/currency": {"equals": "USD"}}}}), true),
        (json!({"not": {"arguments": {"/currency": {"equals": "EUR"}, "/amount": {"gt": 5000}}}}), true),
    ] {
        let arguments =
            json!({"amount": "1240.00", "currency": "EUR", "lines": [{"sku": "A1"}, {"sku": "B2"}], "a/b": true});
        let found = verdict(&rules(&json!([rule("r", &of, &json!({}))])), &arguments);
        assert_eq!(found, holds.then(|| ("r".into(), false, None)), "{of}");
    }
}

#[test]
fn the_first_that_holds_applies() {
    let document = rules(&json!([
        rule("large", &json!({"arguments": {"/amount": {"gte": 1000}}}), &json!({"approvals": 2})),
        rule("all", &json!({}), &json!({"groups": ["ops"]})),
        rule("never reached", &json!({"arguments": {"/x": {"equals": 1}}}), &json!({"approvals": 9})),
    ]));
    assert_eq!(verdict(&document, &json!({"amount": 1000})), Some(("large".into(), false, Some(2))));
    assert_eq!(verdict(&document, &json!({"amount": "999.99"})), Some(("all".into(), false, None)));
}

#[test]
fn a_rule_that_cannot_be_judged_makes_what_follows_stricter() {
    let document = rules(&json!([
        rule(
            "large",
            &json!({"arguments": {"/amount": {"gte": 1000}}}),
            &json!({"approvals": 2, "groups": ["finance"]})
        ),
        rule("ours", &json!({"agents": ["billing"]}), &json!({"approvals": 1, "groups": ["ops"]})),
        rule("three", &json!({"arguments": {"/currency": {"equals": "EUR"}}}), &json!({"approvals": 3})),
    ]));
    for (arguments, approvals) in [
        (json!({"amount": "a lot", "currency": "EUR"}), 3),
        (json!({"currency": "USD"}), 2),
        (json!({"amount": null, "currency": 7}), 3),
        // A tool that ignores case may take the other one.
        (json!({"amount": 1, "Amount": 5000, "currency": "USD"}), 2),
    ] {
        let applied = judge(&document, &arguments).unwrap();
        assert_eq!((applied.rule.as_str(), applied.failed), ("large", true), "{arguments}");
        assert_eq!(applied.ask.approvals, Some(Whole(approvals)), "{arguments}");
        assert_eq!(applied.ask.groups.unwrap()[0].as_str(), "ops", "of the first ask that applies: {arguments}");
    }
    // Where no other applies, the failed one says who is asked.
    let alone =
        rules(&json!([rule("large", &json!({"arguments": {"/amount": {"gte": 1}}}), &json!({"groups": ["finance"]}))]));
    let applied = judge(&alone, &json!({})).unwrap();
    assert!(applied.failed && applied.ask.names_people());
}

#[test]
fn one_comparison_that_cannot_be_made_fails_its_rule_wherever_it_stands() {
    for of in [
        json!({"arguments": {"/a": {"equals": 1}, "/b": {"equals": 1}}}),
        json!({"arguments": {"/b": {"equals": 1}, "/a": {"equals": 1}}}),
        json!({"arguments": {"/b": {"equals": 1, "prefix": "x"}}}),
        json!({"arguments": {"/b": {"equals": 1}}, "not": {"arguments": {"/a": {"gt": 1}}}}),
    ] {
        let document = rules(&json!([rule("r", &of, &json!({}))]));
        assert_eq!(verdict(&document, &json!({"b": 2})), Some(("r".into(), true, None)), "{of}");
    }
}

#[test]
fn arguments_are_read_only_where_a_rule_looks_at_them() {
    let read = Cell::new(0);
    let arguments = || {
        read.set(read.get() + 1);
        Json::Object(Vec::new())
    };
    let document = rules(&json!([
        rule("of another", &json!({"agents": ["x"], "arguments": {"/a": {"exists": true}}}), &json!({})),
        rule("ours", &json!({}), &json!({})),
    ]));
    assert!(document.judge(&FACTS, arguments).is_some());
    assert_eq!(read.get(), 0);
}

/// A rule of few names, so that rules and facts meet.
fn any_rule() -> impl Strategy<Value = (Value, Option<i32>)> {
    let few =
        |names: &'static [&'static str]| proptest::option::of(proptest::sample::subsequence(names, 1..=names.len()));
    let numbers = proptest::option::of((0..4_i32, proptest::sample::select(vec!["gt", "lte", "equals", "prefix"])));
    (
        few(&["a", "b"]),
        few(&["x.one", "x.*", "*", "y"]),
        few(&["P1", "P2", "P3"]),
        numbers,
        any::<bool>(),
        proptest::option::of(1..=10_i32),
    )
        .prop_map(|(agents, types, priorities, number, is_not, approvals)| {
            let mut of = json!({});
            let lists = [("agents", agents), ("action_types", types), ("priorities", priorities)];
            for (name, list) in lists.into_iter().filter_map(|(name, list)| Some((name, list?))) {
                of[name] = json!(list);
            }
            if let Some((number, test)) = number {
                let operand = if test == "prefix" { json!(number.to_string()) } else { json!(number) };
                let arguments = json!({"/n": {test: operand}});
                if is_not { of["not"] = json!({"arguments": arguments}) } else { of["arguments"] = arguments }
            }
            (json!({"mode": "enforce", "match": of, "then": {"ask": approvals.map_or(json!({}), |n| json!({"approvals": n}))}}), approvals)
        })
}

/// What a rule alone says of the same.
fn alone(rule: &Value, facts: &Facts<'_>, arguments: &Value) -> Option<bool> {
    let document = rules(&json!([rule]));
    document.judge(facts, || Json::parse(arguments.to_string().as_bytes()).unwrap()).map(|applied| applied.failed)
}

proptest! {
    /// The index leaves out nothing that matches, and what applies is what going through one by one finds. After a failure
    /// no rule that may apply asks for more approvals than are required.
    #[test]
    fn judged_at_once_is_judged_one_by_one(
        given in proptest::collection::vec(any_rule(), 0..12),
        agent_id in proptest::sample::select(vec!["a", "b", "c"]),
        action_type in proptest::sample::select(vec!["x.one", "x.two", "y", "z"]),
        priority in proptest::sample::select(vec![Priority::P1, Priority::P2, Priority::P3]),
        n in proptest::sample::select(vec![json!({}), json!({"n": 0}), json!({"n": "2.0"}), json!({"n": "x"}), json!({"n": null}), json!({"N": 1, "n": 1})]),
    ) {
        let list: Vec<Value> = given.iter().enumerate().map(|(place, (rule, _))| {
            let mut rule = rule.clone();
            rule["name"] = json!(place.to_string());
            rule
        }).collect();
        let facts = Facts { agent_id, action_type, priority, group: None, on_behalf_of: None };
        let found = rules(&json!(list)).judge(&facts, || Json::parse(n.to_string().as_bytes()).unwrap());
        let one_by_one: Vec<_> = list.iter().map(|rule| alone(rule, &facts, &n)).collect();
        let first = one_by_one.iter().position(Option::is_some);
        prop_assert_eq!(found.as_ref().map(|applied| applied.rule.to_string()), first.map(|place| place.to_string()));
        let Some((place, applied)) = first.zip(found) else { return Ok(()) };
        prop_assert_eq!(Some(applied.failed), one_by_one[place]);
        let required = applied.ask.approvals.map_or(1, |whole| whole.0);
        if applied.failed {
            for (later, judged) in one_by_one.iter().enumerate().filter(|(_, judged)| judged.is_some()) {
                prop_assert!(given[later].1.unwrap_or(1) <= required, "{:?}", judged);
            }
        } else {
            prop_assert_eq!(required, given[place].1.unwrap_or(1));
        }
    }

    /// No text makes the reader panic, and what it takes it takes again.
    #[test]
    fn any_document_is_read_or_refused(text in r#"\{"rules":\[(\{"name":"a","mode":"(enforce|off)","match":\{("arguments":\{"(/a)?":\{"(gt|in|exists)":[0-9a-z\[\]"]{0,3}\}\})?\},"then":\{"(ask|decide)":(\{\}|"approve")\}\},?){0,2}\],"note":"x"\}"#) {
        if let Ok(document) = RulesDocument::parse(text.as_bytes()) {
            prop_assert!(RulesDocument::stored(&document.text).is_ok());
        }
    }
}
