"""Names of every key on the bus. This docstring is the operators' reference; it must hold no behaviour.

Every key starts with the prefix `{callboard}:` (the hash tag is the namespace in braces, so that one script may touch
them all, in Redis Cluster too; with shards it is `{callboard-<shard>}:`). Written by: S = whoever sends, W = a worker
process, A = an administrator's call (cancel, pause, ...). Every write is by a script; nothing else may write here. (The
cache has a prefix of its own: workers.cache.)

======================  ======  =====  ==============================================================================
key                     type    by     what it holds, and its bound
======================  ======  =====  ==============================================================================
messages                hash    S W A  message id → record (version, priority, attempt, the encoded message). One field
                                       a message that waits, is delayed or is leased; gone when it is settled.
deliveries              hash    W      message id → "fence:claim owner losses score queue" of its last delivery
                                       (claim: none if nobody holds it; losses: a number, then maybe ":" and who held
                                       it before; queue: its lane, if it waited in one). Only for messages delivered
                                       and not settled yet.
leases                  zset    W      message id → when the lease ends (us). At most what all workers hold: threads +
                                       look-ahead each.
heads                   zset    S W A  queue → score of its best waiting message. One entry a queue that has waiting
                                       messages and is not paused.
due                     zset    S W A  queue → when its earliest delayed message is due (us). One entry a queue.
paused                  set     A      queues that are not handed out.
queues                  set     S W    names of all queues ever used, without lanes. One entry a queue.
tombstones              zset    A      message id → when its tombstone falls (us). Cancelled before they arrived; 1 h
                                       each; removed by the next cancel or the upkeep of any worker.
clock                   string  S      arrival given last (us): same-instant arrivals stay in order. One number.
generation              hash    W      number, since_us, restarted_us, run_id: which life of the server's data this is;
                                       emptied_us: when it began, if workers lived through the loss of the last one.
lock:<name>             string  W      "token fence run task" of who has a lock. Expires after its ttl_s.
lock:<name>:waits       zset    W      task id → when it first found the lock held (us). At most 10,000; expires a day
                                       after the last that found it so.
lock_tokens             hash    W      lock → token given last. One field a lock that code names, as in:
lock_metrics            hash    W      "<lock> <counter>" → number; counters acquired, held, lost, waited_us.
probe                   string  A      what `probe` wrote to see whether the server takes writes. Expires after 10 s.
producer:<name>         string  S      last call of one sending thread and its answer (up to 1,000 characters). Expires
                                       after `answer_ttl_s` (2 min).
claim:<owner>           string  W      last claim of one worker process and the ids it was given (at most threads +
                                       look-ahead). Expires after four leases.
poke:<owner>            list    W      one token of a worker process to its own blocked pop. Expires after 10 s.
queue:<name>:waiting    zset    S W A  message id → score, lowest first. One entry a waiting message.
queue:<name>:delayed    zset    S W    message id → due time (us). One entry a delayed message.
queue:<name>:wake       list    S W A  wake-up tokens, each with how many processes have had it; blocked workers pop
                                       them. At most 8. None for lanes.
queue:<name>:lanes      set     S W    lanes of the queue. One entry an actor that ever had a message in a lane of it.
queue:<lane>:held       set     W      ids of a lane's leased messages: its permits in use. As many as are leased.
queue:<lane>:starts     zset    W      "id fence" → when it was handed out (us), for the actor's rate. At most the rate
                                       (10,000) and what workers held when it was lowered; expires after its window.
queue:<name>:dead       zset    W      message id → when it died (us). At most `dead_letters_kept`, each at most
                                       `dead_letter_age_s` old (upkeep of any worker, once a minute).
queue:<name>:letters    hash    W      message id → reason, newline, record. As many as `dead`. None for lanes.
======================  ======  =====  ==============================================================================

A lane is called `<queue>|<actor>`: the messages of an actor with a limit (`limit.py`), and those that a worker met
whose code does not have the actor, wait there, in `waiting` and `delayed` zsets of the lane's own; `heads` and `due`
have it as one more queue. Its dead letters are the queue's.

A message is in exactly one of: a waiting zset, a delayed zset, `leases`, a dead zset (but an id that is dead may be
sent anew: then the old letter stays beside it until its time). Size: about 250 bytes and its
JSON; a million delayed no-op messages take some 450 MB. The server should run `maxmemory-policy noeviction` (any other
loses messages silently) and `appendonly yes` (else a crash loses the queue).
"""

from __future__ import annotations

import re

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]+")


class Keys:
    """The key names of one tag.

    namespace: letters, digits, `_`, `.`, `-`; becomes the hash tag. Raises ValueError for any other.
    """

    def __init__(self, namespace: str) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(
                f"expected namespace to be letters, digits, '_', '.' or '-', got {namespace!r}; "
                "leave out braces: the bus adds them"
            )
        self.prefix = "{" + namespace + "}:"

    def poke(self, owner: str) -> str:
        """List with which a worker process wakes its own blocked pop."""
        return f"{self.prefix}poke:{owner}"

    def wake(self, queue_name: str) -> str:
        """List of wake-up tokens of one queue, read by a plain BLPOP as `poke` is."""
        return f"{self.prefix}queue:{queue_name}:wake"
