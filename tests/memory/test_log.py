# SPDX-License-Identifier: Apache-2.0
import random

from purecd.memory.log import Command, Solo
from purecd.memory.member import Member
from purecd.pb import messages as pb


def test_a_member_that_is_alone_agrees_with_itself_at_once():
    log = Solo(term=4)
    member = Member(rng=random.Random(1), log=log)
    assert (log.term(member), log.leader_id(member), log.committed(member)) == (4, member.member_id, 0)
    outcomes = []
    log.propose(member, Command(pb.PutRequest(key=b"k")), outcomes.append, 1.0)
    log.read_index(member, outcomes.append, 1.0)
    log.move_leader(member, 5, outcomes.append, 1.0)
    log.ask_leader(member, lambda leader, now, done: done((leader, now)), outcomes.append, 2.0)
    put, *rest = outcomes
    assert put.header.revision == 2
    assert rest == [None, None, (member, 2.0)]
    assert log.committed(member) == 1
