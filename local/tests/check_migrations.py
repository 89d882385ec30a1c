"""Each rule of local/check-migrations finds what it is for, and nothing else."""
import importlib.machinery
import importlib.util
import pathlib
import unittest

PATH = pathlib.Path(__file__).resolve().parent.parent / "check-migrations"
loader = importlib.machinery.SourceFileLoader("check_migrations", str(PATH))
checker = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_migrations", loader))
loader.exec_module(checker)

LIMIT = "SET LOCAL lock_timeout = '2s';\n"


class Rules(unittest.TestCase):
    def faults(self, text, name="0042_more"):
        return checker.faults(name, text)

    def test_what_is_refused(self):
        for text, word in [
            ("ALTER TABLE a ADD COLUMN b text;", "lock_timeout"),
            (LIMIT + "CREATE INDEX i ON a (b);", "CONCURRENTLY"),
            (LIMIT + "CREATE UNIQUE INDEX IF NOT EXISTS i ON a (b);", "CONCURRENTLY"),
            (LIMIT + "ALTER TABLE a ADD COLUMN b int, ADD CONSTRAINT c CHECK (b IN (1, 2));", "NOT VALID"),
            (LIMIT + "ALTER TABLE a ADD CONSTRAINT c FOREIGN KEY (b) REFERENCES d (e);", "NOT VALID"),
            (LIMIT + "ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0) NOT VALID; ALTER TABLE a VALIDATE CONSTRAINT c;", "validates"),
            (LIMIT + "ALTER TABLE a ALTER COLUMN b TYPE bigint;", "reads or writes"),
            (LIMIT + "ALTER TABLE a ALTER COLUMN b SET NOT NULL;", "reads or writes"),
            (LIMIT + "DROP INDEX i;", "later release"),
            (LIMIT + "ALTER TABLE a DROP COLUMN b;", "later release"),
            ("-- no-transaction\nCREATE INDEX CONCURRENTLY i ON a (b); CREATE INDEX CONCURRENTLY j ON a (b);", "not one"),
        ]:
            self.assertTrue(any(word in fault for fault in self.faults(text)), text)
        self.assertTrue(self.faults(LIMIT + "ALTER TABLE a DROP COLUMN b, ADD COLUMN c int;", "0043_contract"))

    def test_what_is_fine(self):
        for text in [
            LIMIT + "CREATE TABLE a (b int, CONSTRAINT c CHECK (b > 0)); CREATE INDEX i ON a (b);",
            LIMIT + "ALTER TABLE a DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (b > 0) NOT VALID;",
            LIMIT + "ALTER TABLE a ADD CONSTRAINT b_within_9 CHECK (b < 9) NOT VALID, DROP CONSTRAINT b_within_5;",
            LIMIT + "ALTER TABLE a VALIDATE CONSTRAINT c; -- DROP TABLE a;",
            LIMIT + "COMMENT ON TABLE a IS 'DROP TABLE a; it''s fine';",
            "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON a (b);",
        ]:
            self.assertEqual(self.faults(text), [], text)
        self.assertEqual(self.faults(LIMIT + "ALTER TABLE a DROP COLUMN b;", "0043_contract"), [])

    def test_the_list_of_old_ones_only_shrinks(self):
        migrations = dict.fromkeys(checker.OLD, "CREATE INDEX i ON a (b);")
        self.assertEqual(checker.check(migrations), [])
        self.assertEqual(len(checker.check({**migrations, checker.OLD[0]: LIMIT})), 1)
        del migrations[checker.OLD[0]]
        self.assertEqual(len(checker.check(migrations)), 1)


if __name__ == "__main__":
    unittest.main()
