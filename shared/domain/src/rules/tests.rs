//! Rules as a whole: what a document may say, which rule applies, and that what cannot be judged is asked more strictly.

use std::cell::Cell;

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
    latitude: Latitude::Approve,
};

fn decide(name: &str, of: &Value, verdict: &str) -> Value {
    json!({"name": name, "mode": "enforce", "match": of, "then": {"decide": verdict, "reason": format!("By {name}")}})
}

fn judge_all(rules: &Rules, facts: &Facts<'_>, arguments: &Value) -> Judgement {
    rules.judge(facts, || Json::parse(arguments.to_string().as_bytes()).unwrap())
}

fn judge(rules: &Rules, arguments: &Value) -> Option<Applied> {
    judge_all(rules, &FACTS, arguments).applied
}

/// The name of what applies, whether it failed, and the approvals.
fn verdict(rules: &Rules, arguments: &Value) -> Option<(String, bool, Option<i32>)> {
    judge(rules, arguments).map(|applied| {
        let approvals = applied.effect.ask().unwrap().approvals;
        (applied.rule.to_string(), applied.failed, approvals.map(|whole| whole.0))
    })
}

/// The name of what applies, its effect, and whether it failed or is withheld.
fn effect(applied: Option<&Applied>) -> Option<(&str, &'static str, bool, bool)> {
    applied.map(|it| (it.rule.as_str(), it.effect.as_str(), it.failed, it.withheld))
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
    assert_eq!(faults(&two(json!({"decide": "reject"}))), ["/rules/0/then/reason"]);
    let decide = |then: Value| {
        let mut all = json!({"decide": "approve", "reason": "x"});
        all.as_object_mut().unwrap().extend(then.as_object().unwrap().clone());
        faults(&two(all))
    };
    assert_eq!(decide(json!({"decide": "edit"})), ["/rules/0/then/decide"]);
    assert_eq!(decide(json!({"reason": ""})), ["/rules/0/then/reason"]);
    assert_eq!(decide(json!({"reason": "x".repeat(2_001)})), ["/rules/0/then/reason"]);
    assert_eq!(decide(json!({"approvals": 2})), ["/rules/0/then/approvals"]);
    for (at_most, pointers) in [
        (json!({}), vec!["/rules/0/then/at_most/count", "/rules/0/then/at_most/per_seconds"]),
        (json!({"count": 0, "per_seconds": 1}), vec!["/rules/0/then/at_most/count"]),
        (
            json!({"count": 1_000_000_001, "per_seconds": 0}),
            vec!["/rules/0/then/at_most/count", "/rules/0/then/at_most/per_seconds"],
        ),
        (json!({"count": 1, "per_seconds": 31_536_001}), vec!["/rules/0/then/at_most/per_seconds"]),
        (
            json!({"count": 1.5, "per_seconds": "60"}),
            vec!["/rules/0/then/at_most/count", "/rules/0/then/at_most/per_seconds"],
        ),
        (json!({"count": 1, "per_seconds": 60, "per": 1}), vec!["/rules/0/then/at_most/per"]),
        (json!(5), vec!["/rules/0/then/at_most"]),
    ] {
        assert_eq!(decide(json!({"at_most": at_most})), pointers, "{at_most}");
    }
    let twice = json!([rule("a", &json!({}), &json!({})), rule("a", &json!({}), &json!({}))]);
    assert_eq!(faults(&twice), ["/rules/1/name"]);
    let shadow = json!([{"name": "a", "mode": "shadow", "match": {}, "then": {"decide": "approve", "reason": "x"}}]);
    assert!(rules(&shadow).is_empty(), "it never acts");
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
    let again = RulesDocument::of_list(&document.text).unwrap();
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
        let ask = applied.effect.ask().unwrap();
        assert_eq!(ask.approvals, Some(Whole(approvals)), "{arguments}");
        assert_eq!(ask.groups.as_ref().unwrap()[0].as_str(), "ops", "of the first ask that applies: {arguments}");
    }
    // Where no other applies, the failed one says who is asked.
    let alone =
        rules(&json!([rule("large", &json!({"arguments": {"/amount": {"gte": 1}}}), &json!({"groups": ["finance"]}))]));
    let applied = judge(&alone, &json!({})).unwrap();
    assert!(applied.failed && applied.effect.ask().unwrap().names_people());
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
    assert!(document.judge(&FACTS, arguments).applied.is_some());
    assert_eq!(read.get(), 0);
}

#[test]
fn the_first_that_holds_decides() {
    let small = json!({"arguments": {"/amount": {"lte": 50}}});
    let document = rules(&json!([
        decide("small", &small, "approve"),
        decide("foreign", &json!({"arguments": {"/currency": {"equals": "CHF"}}}), "reject"),
        rule("all", &json!({}), &json!({"approvals": 2})),
    ]));
    let of = |arguments| judge(&document, &arguments);
    let approved = of(json!({"amount": "50.00", "currency": "CHF"})).unwrap();
    assert_eq!(effect(Some(&approved)), Some(("small", "approve", false, false)));
    assert_eq!(approved.effect.decides().unwrap().reason.as_str(), "By small");
    assert_eq!(
        effect(of(json!({"amount": 51, "currency": "CHF"})).as_ref()),
        Some(("foreign", "reject", false, false))
    );
    assert_eq!(effect(of(json!({"amount": 51, "currency": "EUR"})).as_ref()), Some(("all", "ask", false, false)));
}

#[test]
fn after_a_failure_nothing_is_approved_and_what_is_rejected_stays_rejected() {
    let small = json!({"arguments": {"/amount": {"lte": 50}}});
    let large = json!({"arguments": {"/amount": {"gt": 5_000}}});
    for (document, expected, approvals) in [
        (json!([decide("small", &small, "approve")]), ("small", "ask", true, false), None),
        (
            json!([decide("small", &small, "approve"), decide("rest", &json!({}), "approve")]),
            ("small", "ask", true, false),
            None,
        ),
        (
            json!([rule("large", &large, &json!({"approvals": 2})), decide("rest", &json!({}), "approve")]),
            ("large", "ask", true, false),
            Some(2),
        ),
        (
            json!([
                decide("small", &small, "approve"),
                rule("three", &json!({}), &json!({"approvals": 3})),
                decide("rest", &json!({}), "approve")
            ]),
            ("small", "ask", true, false),
            Some(3),
        ),
        // A rule that holds still rejects: that another cannot be judged lets nothing through to a person.
        (
            json!([decide("small", &small, "approve"), decide("never", &json!({}), "reject")]),
            ("never", "reject", false, false),
            None,
        ),
        (
            json!([decide("huge", &large, "reject"), rule("all", &json!({}), &json!({"approvals": 4}))]),
            ("huge", "ask", true, false),
            Some(4),
        ),
    ] {
        let applied = judge(&rules(&document), &json!({"amount": "some"}));
        assert_eq!(effect(applied.as_ref()), Some(expected), "{document}");
        let found = applied.unwrap().effect.ask().and_then(|ask| ask.approvals.map(|whole| whole.0));
        assert_eq!(found, approvals, "{document}");
    }
}

#[test]
fn what_failed_before_a_rule_that_rejects_stays_named() {
    let small = json!({"arguments": {"/amount": {"lte": 50}}});
    let document = rules(&json!([
        decide("first", &small, "approve"),
        decide("second", &small, "approve"),
        decide("never", &json!({}), "reject"),
    ]));
    let failed_before = |arguments| judge(&document, &arguments).unwrap().failed_before.map(|name| name.to_string());
    assert_eq!(failed_before(json!({"amount": "some"})), Some("first".into()));
    assert_eq!(failed_before(json!({"amount": 51})), None);
}

#[test]
fn the_order_of_members_is_no_part_of_a_scope() {
    let scope = |of: &str| {
        let rule = format!(r#"{{"name":"r","mode":"enforce","match":{of},"then":{{"decide":"reject","reason":"x"}}}}"#);
        let text = format!(r#"{{"note":"n","rules":[{rule}]}}"#);
        let rules = RulesDocument::parse(text.as_bytes()).unwrap().rules;
        rules.rules[0].effect.decides().unwrap().scope
    };
    let one = scope(r#"{"agents":["a"],"arguments":{"/x":{"gte":1,"lte":2},"/y":{"exists":true}}}"#);
    assert_eq!(one, scope(r#"{"arguments":{"/y":{"exists":true},"/x":{"lte":2,"gte":1}},"agents":["a"]}"#));
    assert_ne!(one, scope(r#"{"agents":["a"],"arguments":{"/x":{"gte":1,"lte":3},"/y":{"exists":true}}}"#));
}

#[test]
fn what_may_not_be_decided_is_asked_as_later_rules_say() {
    let document = rules(&json!([
        decide("small", &json!({"arguments": {"/amount": {"lte": 50}}}), "approve"),
        decide("never", &json!({"arguments": {"/amount": {"gt": 5_000}}}), "reject"),
        rule("all", &json!({}), &json!({"groups": ["ops"], "approvals": 2, "requester_may_decide": true})),
        decide("not reached", &json!({}), "reject"),
    ]));
    let of = |priority, latitude, amount: i32| {
        let applied = judge_all(&document, &Facts { priority, latitude, ..FACTS }, &json!({"amount": amount})).applied;
        let approvals = applied.as_ref().and_then(|it| it.effect.ask()?.approvals).map(|whole| whole.0);
        let said = effect(applied.as_ref()).unwrap();
        (said.0.to_owned(), said.1, said.3, approvals)
    };
    let asked = |name: &str| (name.to_owned(), "ask", true, Some(2));
    assert_eq!(of(Priority::P3, Latitude::Approve, 5), ("small".into(), "approve", false, None));
    assert_eq!(of(Priority::P1, Latitude::Approve, 5), asked("small"));
    assert_eq!(of(Priority::P2, Latitude::Reject, 5), asked("small"));
    assert_eq!(of(Priority::P2, Latitude::Ask, 5), asked("small"));
    for (priority, latitude) in [(Priority::P1, Latitude::Approve), (Priority::P2, Latitude::Reject)] {
        assert_eq!(of(priority, latitude, 5_001), ("never".into(), "reject", false, None));
    }
    assert_eq!(of(Priority::P2, Latitude::Ask, 5_001), asked("never"));
    // Those who are asked are asked in full.
    let applied = judge_all(&document, &Facts { priority: Priority::P1, ..FACTS }, &json!({"amount": 5})).applied;
    let ask = applied.unwrap().effect.ask().cloned().unwrap();
    assert!(ask.names_people() && ask.requester_may_decide == Some(true));
}

#[test]
fn shadows_are_told_apart_and_change_nothing() {
    let shadow = |mut rule: Value| {
        rule["mode"] = "shadow".into();
        rule
    };
    let small = json!({"arguments": {"/amount": {"lte": 50}}});
    let everything = json!({});
    let cases = [
        // What stands before would have acted.
        (
            json!([shadow(decide("s", &small, "approve")), rule("all", &everything, &everything)]),
            Some("all"),
            Some(("s", "approve", false, false)),
            vec![],
        ),
        (json!([shadow(decide("s", &small, "approve"))]), None, Some(("s", "approve", false, false)), vec![]),
        // What stands behind one that applies is kept beside it.
        (
            json!([rule("all", &everything, &everything), shadow(decide("s", &small, "reject"))]),
            Some("all"),
            Some(("s", "reject", false, false)),
            vec![],
        ),
        (
            json!([
                decide("all", &everything, "approve"),
                rule("never reached", &json!({"arguments": {"/absent": {"equals": 1}}}), &everything),
                shadow(decide("not", &json!({"agents": ["x"]}), "reject")),
                shadow(rule("s", &small, &json!({"approvals": 2}))),
                shadow(decide("t", &small, "reject")),
            ]),
            Some("all"),
            Some(("s", "ask", false, false)),
            vec![],
        ),
        // Of several, the first.
        (
            json!([shadow(decide("s", &small, "approve")), shadow(decide("t", &small, "reject"))]),
            None,
            Some(("s", "approve", false, false)),
            vec![],
        ),
    ];
    for (document, acts, would, failed) in cases {
        let judgement = judge_all(&rules(&document), &FACTS, &json!({"amount": 5}));
        assert_eq!(judgement.applied.as_ref().map(|it| it.rule.as_str()), acts, "{document}");
        assert_eq!(effect(judgement.shadow.as_ref()), would, "{document}");
        assert_eq!(judgement.failed, failed, "{document}");
    }
    let document = rules(&json!([
        shadow(decide("s", &small, "approve")),
        decide("e", &small, "approve"),
        shadow(decide("t", &small, "approve")),
        rule("all", &everything, &everything),
    ]));
    let judgement = judge_all(&document, &FACTS, &json!({"amount": "some"}));
    assert_eq!(effect(judgement.applied.as_ref()), Some(("e", "ask", true, false)));
    assert_eq!(effect(judgement.shadow.as_ref()), Some(("s", "ask", true, false)));
    assert_eq!(judgement.failed.iter().map(RuleName::as_str).collect::<Vec<_>>(), ["s", "e", "t"]);
    // Behind one that failed, too; and a P1 it would not approve either.
    let document = rules(&json!([decide("e", &small, "approve"), shadow(decide("s", &everything, "approve"))]));
    let judgement = judge_all(&document, &FACTS, &json!({}));
    assert_eq!(effect(judgement.applied.as_ref()), Some(("e", "ask", true, false)));
    assert_eq!(effect(judgement.shadow.as_ref()), Some(("s", "approve", false, false)));
    let document = rules(&json!([rule("all", &everything, &everything), shadow(decide("s", &everything, "approve"))]));
    let judgement = judge_all(&document, &Facts { priority: Priority::P1, ..FACTS }, &json!({}));
    assert_eq!(effect(judgement.shadow.as_ref()), Some(("s", "ask", false, true)));
    // A failure of the shadow does not keep a rule in force from approving.
    let document = rules(&json!([shadow(decide("s", &small, "approve")), decide("all", &everything, "approve")]));
    let judgement = judge_all(&document, &FACTS, &json!({}));
    assert_eq!(effect(judgement.applied.as_ref()), Some(("all", "approve", false, false)));
    assert_eq!(effect(judgement.shadow.as_ref()), Some(("s", "ask", true, false)));
}
