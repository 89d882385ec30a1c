"""What the database itself refuses: decisions and chains are written once, whoever asks."""

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
