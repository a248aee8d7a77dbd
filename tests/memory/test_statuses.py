# SPDX-License-Identifier: Apache-2.0
from purecd import errors
from purecd.memory import statuses

ALL = {name: value for name, value in vars(statuses).items() if name.isupper()}


def test_every_text_is_known_to_the_client():
    texts = {text for _, text in ALL.values()}
    assert len(texts) == len(ALL)
    known = {text for text in texts if type(errors.from_status(9, text)) is not errors.RpcError}
    unknown = texts - known
    assert not unknown
