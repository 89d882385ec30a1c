"""What the database itself refuses: decisions and chains are written once, whoever asks."""

import json
import re
from pathlib import Path

import psycopg
import pytest

from support import export_chain, submit_decided

TABLES = ["hitl_decisions", "approval_chain"]
STATEMENTS = [
    "UPDATE {table} SET request_id = request_id WHERE request_id = '{request_id}'",
    "DELETE FROM {table} WHERE request_id = '{request_id}'",
    "TRUNCATE {table} CASCADE",
]

everywhere = pytest.mark.parametrize("table", TABLES)
everything = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.split()[0])


@pytest.fixture
def connection(stack):
    """A connection whose work is never kept."""
    with psycopg.connect(stack["database_url"], options="-c lock_timeout=5s") as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def decided(agent, operator) -> str:
    return submit_decided(agent, operator)["request_id"]


def attempt(connection, statement: str, table: str, request_id: str) -> psycopg.Error:
    """The error that the statement ends with; there must be one."""
    rows = connection.execute(f"SELECT count(*) FROM {table} WHERE request_id = %s", [request_id]).fetchone()
    assert rows[0] > 0, "nothing there to protect"
    with pytest.raises(psycopg.Error) as refusal:
        connection.execute(statement.format(table=table, request_id=request_id))
    return refusal.value


@everywhere
@everything
def test_the_services_role_may_not_change_what_was_decided(connection, decided, statement, table):
    connection.execute("SET ROLE relaytrace_app")
    assert isinstance(attempt(connection, statement, table, decided), psycopg.errors.InsufficientPrivilege)


@everywhere
@everything
def test_nobody_may_change_what_was_decided(connection, decided, statement, table):
    """Not even who owns the tables: this refusal comes from a trigger, not from a missing grant."""
    [superuser] = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert superuser, "connected as somebody who lacks the grants: this would prove nothing about triggers"
    refusal = attempt(connection, statement, table, decided)
    assert not isinstance(refusal, (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable))
    assert refusal.diag.context and "PL/pgSQL function" in refusal.diag.context


def test_a_refused_change_leaves_everything_as_it_was(connection, decided, operator, admin):
    before = operator.detail(decided)["decision"], export_chain(admin, decided)
    for table in TABLES:
        for statement in STATEMENTS:
            attempt(connection, statement, table, decided)
            connection.rollback()
    assert (operator.detail(decided)["decision"], export_chain(admin, decided)) == before


@everywhere
def test_the_services_role_owns_nothing_it_could_lay_open(connection, table):
    connection.execute("SET ROLE relaytrace_app")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")


# An invariant, and columns of a sound row that break it and none before it.
BROKEN = {
    "hitl_requests_status_known": {"status": "asked"},
    "hitl_requests_priority_known": {"priority": 4},
    "hitl_requests_client_request_key_well_formed": {"client_request_key": "two words"},
    "hitl_requests_digests_are_sha256": {"action_digest": "\\x00"},
    "hitl_requests_respond_by_after_creation": {"respond_by": "2020-01-01T00:00:00Z"},
    "hitl_requests_answers_known": {"answers": ["approve", "perhaps"]},
    "hitl_requests_approvals_possible": {"approvals_required": 11},
    "hitl_requests_permit_bounded": {"permit_seconds": 9},
    "hitl_requests_execution_known": {"execution": "maybe"},
    "hitl_requests_consumed_whole": {"execution": "consumed"},
    "hitl_decisions_outcome_known": {"outcome": "perhaps"},
    "hitl_decisions_cause_known": {"cause": "luck"},
    "hitl_decisions_decided_by_known": {"decided_by_kind": "cat"},
    "hitl_decisions_timeout_is_no_person": {"cause": "timeout"},
    "hitl_decisions_approved_by_who_may": {"cause": "agent", "decided_by_kind": "agent"},
    "hitl_decisions_operator_rejects_with_reason": {"outcome": "rejected", "reason": None},
    "approval_chain_kind_known": {"kind": "guessed"},
    "approval_chain_starts_at_one": {"seq": 0},
    "approval_chain_hashes_its_entry": {"hash": "\\x00"},
    "approval_chain_entry_is_its_rows": {"seq": 77},
    "deliveries_state_known": {"state": "lost"},
    "deliveries_result_known": {"result": "perhaps"},
    "deliveries_lease_is_whole": {"state": "leased", "delivery_id": None},
    "deliveries_acknowledged_means_accepted": {"state": "acknowledged", "result": "failed"},
    "deliveries_attempt_not_negative": {"state": "ready", "attempt": -1},
}
SOUND = ["hitl_requests", *TABLES, "deliveries"]


@pytest.mark.parametrize("invariant", BROKEN)
def test_a_row_that_breaks_an_invariant_is_refused_by_its_name(connection, decided, invariant):
    [table] = [table for table in SOUND if invariant.startswith(table)]
    # The copy of a row meets the primary key, if nothing before it.
    copy = f"INSERT INTO {table} SELECT (jsonb_populate_record({table}, %s)).* FROM {table} WHERE request_id = %s"
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(copy, ["{}", decided])
    connection.rollback()
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        connection.execute(copy, [json.dumps(BROKEN[invariant]), decided])
    assert refusal.value.diag.constraint_name == invariant


def test_every_invariant_is_tried(connection):
    functions = [f"{table}_is_sound" for table in SOUND]
    named = connection.execute(
        "SELECT (regexp_matches(prosrc, $$THEN '(\\w+)'$$, 'g'))[1] FROM pg_proc WHERE proname = ANY (%s)", [functions]
    )
    assert {name for [name] in named} == set(BROKEN)


SQL = Path(__file__).resolve().parents[2] / "shared" / "store" / "sql"
# What operators do, by the function decide.
OF_PEOPLE = ["assign", "claim", "decide", "decision_standing", "detail", "end_delegation", "queue", "queue_decided",
             "release_claim", "set_delegation", "vote"]


@pytest.mark.parametrize("name", OF_PEOPLE)
def test_the_authority_of_people_may_do_what_operators_do(connection, name):
    """Rights are looked at when a statement begins, whatever its values. The one-process stack has all of them in one role."""
    statement = (SQL / f"{name}.sql").read_text()
    connection.execute("SET ROLE relaytrace_people")
    values = ", ".join(["NULL"] * max(int(number) for number in re.findall(r"\$(\d+)", statement)))
    connection.pgconn.exec_(f"PREPARE tried AS {statement}".encode())
    explained = connection.pgconn.exec_(f"EXPLAIN EXECUTE tried ({values})".encode())
    assert explained.ntuples > 0, explained.error_message.decode()
