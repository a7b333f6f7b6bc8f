"""Tokens, money, budgets. `priced` costs 1000 dollars for a million tokens: 0.1 cent each."""

import anthropic
import pytest

from harness.chat import last_text, of
from harness.upstream import tool
from test_tools import WEATHER, result


def usage(input=0, output=0, write=0, read=0):
    return {
        "input_tokens": input,
        "output_tokens": output,
        "cache_creation_input_tokens": write,
        "cache_read_input_tokens": read,
    }


def budget(cents):
    return {"type": "limit", "max_list_cost": {"amount": cents, "currency": "USD"}}


@pytest.fixture
def priced(upstream):
    script = upstream.script("priced")
    yield script
    assert not script.unexpected and not script.replies


def test_usage_adds_up(chat, priced):
    priced.say("one", usage=usage(1000, 100, 0, 0))
    priced.say("two", usage=usage(500, 50, 0, 2000))
    session = chat("priced")
    session.turn("a")
    session.turn("b")
    ends = of(session.history(), "span.model_request_end")
    assert [(e.model_usage.input_tokens, e.model_usage.output_tokens) for e in ends] == [(1000, 100), (500, 50)]
    assert ends[1].model_usage.cache_read_input_tokens == 2000
    total = session.get().usage
    assert (total.input_tokens, total.output_tokens, total.cache_read_input_tokens) == (1500, 150, 2000)
    # 1500 x 0.1 + 150 x 0.1 + 2000 x 0.01 = 185 cents, and next to nothing for the running time.
    assert 185 <= int(total.list_cost.amount) <= 186 and total.list_cost.currency == "USD"
    snapshots = of(session.history(), "session.usage")
    assert len(snapshots) == 2
    assert snapshots[-1].usage.input_tokens == 1500
    assert snapshots[-1].usage.list_cost == total.list_cost
    assert snapshots[-1].budget is None


def test_models_without_a_price_take_no_budget(chat, script):
    with pytest.raises(anthropic.BadRequestError, match="model_not_budgetable"):
        chat(script.model, budget=budget("100"))


@pytest.mark.parametrize("amount", ["0", "-5", "1.5", "007", "", "abc", "9" * 40])
def test_bad_amounts(chat, amount):
    with pytest.raises(anthropic.BadRequestError, match="budget"):
        chat("priced", budget=budget(amount))


def test_other_currencies(chat):
    with pytest.raises(anthropic.BadRequestError, match="currency"):
        chat("priced", budget={"type": "limit", "max_list_cost": {"amount": "5", "currency": "EUR"}})


def test_a_budget_stops_work_and_raising_it_resumes(chat, client, priced):
    priced.say(tool("get_weather", {"city": "Oslo"}), usage=usage(1000, 10))
    session = chat("priced", budget=budget("50"), agent={"tools": [WEATHER]})
    with session.watch() as watch:
        session.send("weather?")
        use = watch.until("agent.custom_tool_use")
        # The crossing request completes, and what is pending outranks the budget.
        assert watch.idle().stop_reason.type == "requires_action"
        # Results are taken at the cap, but no model is asked.
        session.send(result(use.id, "-5 C"))
        assert watch.idle().stop_reason.type == "budget_reached"
        for refused in ("more work", {"type": "user.define_outcome", "description": "x", "rubric": {"type": "text", "content": "y"}}):
            with pytest.raises(anthropic.BadRequestError, match="user.tool_confirmation"):
                session.send(refused)
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.sessions.update(session.id, budget=budget("90"))
        assert "budget.max_list_cost must be greater than the session's consumed list cost" in caught.value.api_message
        assert "budget_not_raised" in (caught.value.error_code or "") + caught.value.api_message
        priced.say("It is cold.", usage=usage(10, 10))
        raised = client.beta.sessions.update(session.id, budget=budget("5000"))
        assert raised.budget.max_list_cost.amount == "5000"
        assert watch.until("session.updated").budget.max_list_cost.amount == "5000"
        assert watch.idle().stop_reason.type == "end_turn"
    assert last_text(watch.seen) == "It is cold."
    assert of(session.history(), "session.usage")[-1].budget.max_list_cost.amount == "5000"


def test_removing_a_budget_is_one_way(chat, client, priced):
    priced.say("fine", usage=usage(1, 1))
    session = chat("priced", budget=budget("100"))
    session.turn("go")
    assert client.beta.sessions.update(session.id, budget=None).budget is None
    with pytest.raises(anthropic.BadRequestError, match="budget_create_only"):
        client.beta.sessions.update(session.id, budget=budget("500"))


def test_a_budget_cannot_be_added_later(chat, client):
    session = chat("priced")
    with pytest.raises(anthropic.BadRequestError, match="budget_create_only"):
        client.beta.sessions.update(session.id, budget=budget("500"))


def test_a_turn_that_ends_over_the_cap_ends_well(chat, priced):
    """The crossing request completes; the next one is not made."""
    priced.say("expensive words", usage=usage(1000, 0))
    session = chat("priced", budget=budget("50"))
    watch = session.turn("go")
    assert last_text(watch.seen) == "expensive words"
    assert watch.seen[-1].stop_reason.type in ("end_turn", "budget_reached")
    with pytest.raises(anthropic.BadRequestError):
        session.send("go on")
    assert len(priced.requests) == 1
