"""The throw-away cluster itself: it starts, answers, dies, comes back."""

from tests.harness.postgres import Cluster

from holdfast.postgres.control_file import STATE_IN_PRODUCTION, read_control


def test_a_cluster_starts_dies_and_comes_back() -> None:
    with Cluster.create() as cluster:
        cluster.start()
        cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 10) AS n")

        control = read_control(str(cluster.data))
        cluster.kill()
        cluster.start()

        assert cluster.sql("SELECT sum(n) FROM t") == "55"
        told = cluster.sql("SELECT system_identifier FROM pg_control_system()")
        assert told == str(control.system_identifier)
        assert control.state == STATE_IN_PRODUCTION
        assert control.wal_segment_bytes == 1 << 20
        assert control.has_checksums
        cluster.stop()
