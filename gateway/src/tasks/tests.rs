use super::*;

fn task(form: Form) -> Task {
    Task::new(Uuid::from_u128(7), form, "http://relay/?id=7", now())
}

fn added(tasks: &mut Tasks, number: u128) -> String {
    let task = Task::new(Uuid::from_u128(number), Form::Core, "", now());
    let id = task.id.clone();
    assert!(tasks.add(task));
    id
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_task_ends_once_and_is_told_in_the_form_of_its_client() {
    let mut core = task(Form::Core);
    let created = parsed(&core.created());
    assert_eq!((&created["task"]["status"], &created["task"]["pollInterval"]), (&json!("working"), &json!(1_000)));
    assert!(created["task"]["ttl"].as_u64().unwrap() >= 3_599_000);
    assert!(created["_meta"][IMMEDIATE].as_str().unwrap().contains("http://relay/?id=7"));
    assert!(core.enter(Phase::Completed(r#"{"content":[],"_meta":{"n":1.0}}"#.to_owned())));
    assert!(!core.enter(Phase::Cancelled));
    assert_eq!(parsed(&core.state(None))["status"], "completed");
    let mut extension = task(Form::Extension);
    assert_eq!(parsed(&extension.created())["resultType"], "task");
    let asked = json!({"method": "elicitation/create"});
    assert_eq!(parsed(&extension.state(Some(asked.clone())))["status"], "input_required");
    assert!(extension.enter(Phase::Completed(r#"{"content":[1.0]}"#.to_owned())));
    let state = extension.state(Some(asked));
    assert!(state.contains(r#""result":{"content":[1.0]}"#) && state.contains(r#""status":"completed""#), "{state}");
    assert_eq!(request_of(&extension.id), Some(Uuid::from_u128(7)));
    assert_eq!(request_of("relaytrace-task-7"), None);
}

#[test]
fn a_result_names_its_task_and_stays_as_it_was() {
    let result = r#"{"content":[1.0],"_meta":{"n":1e0}}"#;
    let related = format!(r#"{{"content":[1.0],"_meta":{{"n":1e0,"{RELATED_TASK}":{{"taskId":"t"}}}}}}"#);
    assert_eq!(with_related(result, "t"), related);
}

#[test]
fn a_task_of_the_server_has_another_name_for_its_client() {
    let mut tasks = Tasks::default();
    let ours = task(Form::Core).id;
    assert!(tasks.add(task(Form::Core)) && !tasks.add(task(Form::Core)));
    assert!(tasks.pass(&ours, "s"));
    for text in [
        r#"{"id":1,"result":{"taskId":"ID","status":"working"}}"#.to_owned(),
        r#"{"method":"notifications/tasks/status","params":{"taskId":"ID"}}"#.to_owned(),
        format!(r#"{{"id":1,"result":{{"content":[],"_meta":{{"a":1,"{RELATED_TASK}":{{"taskId":"ID"}}}}}}}}"#),
        format!(r#"{{"id":1,"method":"e","params":{{"_meta":{{"{RELATED_TASK}":{{"taskId":"ID"}}}}}}}}"#),
    ] {
        let (of_server, of_client) = (text.replace("ID", "s"), text.replace("ID", &ours));
        assert_eq!(tasks.to_client(&Members::look(&of_server).unwrap()), Some(of_client.clone()));
        assert_eq!(tasks.to_server(&Members::look(&of_client).unwrap()), Some(of_server));
    }
    assert_eq!(tasks.to_client(&Members::look(r#"{"params":{"taskId":"other"}}"#).unwrap()), None);
}

#[test]
fn results_of_calls_that_end_have_a_limit_in_bytes_and_the_newest_stays() {
    let mut tasks = Tasks::default();
    let ids: Vec<_> = (0..4).map(|number| added(&mut tasks, number)).collect();
    assert!(tasks.pass(&ids[0], "s"));
    for id in &ids[1..3] {
        assert!(tasks.enter(id, Phase::Completed("x".repeat(MOST_KEPT / 2))));
    }
    let kept: Vec<_> = ids.iter().map(|id| tasks.get(id).is_some()).collect();
    assert_eq!(kept, [true, false, true, true]);
    // No result is longer than a message.
    assert!(tasks.enter(&ids[3], Phase::Completed("x".repeat(MOST_KEPT))));
    let kept: Vec<_> = ids.iter().map(|id| tasks.get(id).is_some()).collect();
    assert_eq!(kept, [false, false, false, true]);
}

#[test]
fn results_have_a_limit_in_number_and_waiting_tasks_have_none_here() {
    let mut tasks = Tasks::default();
    let most = (MOST_KEPT / LEAST_KEPT) as u128;
    let waiting = added(&mut tasks, most + 1);
    for number in 0..=most {
        let id = added(&mut tasks, number);
        assert!(tasks.enter(&id, Phase::Completed("{}".to_owned())));
    }
    assert_eq!((tasks.all.len() as u128, tasks.waiting()), (most + 1, 1));
    assert!(tasks.get(&id_of(Uuid::from_u128(0))).is_none() && tasks.get(&id_of(Uuid::from_u128(1))).is_some());
    assert!(tasks.get(&waiting).is_some());
}

#[test]
fn tasks_that_are_taken_back_have_a_limit_in_number_too() {
    let mut tasks = Tasks::default();
    let most = MOST_KEPT / LEAST_KEPT;
    for number in 0..=most as u128 + 1 {
        let id = added(&mut tasks, number);
        assert!(tasks.get_mut(&id).unwrap().enter(Phase::Cancelled));
    }
    assert_eq!(tasks.all.len(), most + 1);
}

#[test]
fn a_result_is_kept_for_the_ttl_that_its_client_was_told_and_not_longer() {
    let mut tasks = Tasks::default();
    let task = Task::new(Uuid::from_u128(7), Form::Core, "", now() + Duration::from_hours(24));
    let (id, ttl) = (task.id.clone(), parsed(&task.created())["task"]["ttl"].as_u64().unwrap());
    let (begun, ttl) = (task.promised - task.ttl, Duration::from_millis(ttl));
    assert!(tasks.add(task) && ttl > Duration::from_hours(24));
    // It waits, and is remembered as long as that lasts.
    tasks.tidy(begun + 2 * ttl);
    assert!(tasks.enter(&id, Phase::Completed("{}".to_owned())));
    tasks.tidy(begun + ttl);
    assert!(tasks.get(&id).is_some());
    tasks.tidy(begun + ttl + Duration::from_secs(1));
    assert!(tasks.get(&id).is_none());
}

#[test]
fn a_task_whose_client_does_not_bring_what_the_server_wants_fails() {
    let mut tasks = Tasks::default();
    let task = Task::new(Uuid::from_u128(7), Form::Extension, "", now() + Duration::from_hours(24));
    let id = task.id.clone();
    assert!(tasks.add(task) && tasks.enter(&id, Phase::Running));
    assert!(tasks.enter(&id, Phase::Asks { requests: "{}".to_owned(), state: None }));
    let asked = Instant::now();
    tasks.tidy(asked + KEPT - Duration::from_mins(1));
    assert_eq!(parsed(&tasks.get(&id).unwrap().state(None))["status"], "input_required");
    tasks.tidy(asked + KEPT + Duration::from_secs(1));
    let state = parsed(&tasks.get(&id).unwrap().state(None));
    assert_eq!(
        (&state["status"], &state["error"]["message"]),
        (&json!("failed"), &json!("the input did not come in time"))
    );
}
