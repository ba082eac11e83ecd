import pytest

from apo_jax.plan import hlo

TEXT = """HloModule jit_f, is_scheduled=true, num_partitions=4

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4,8]{1,0} get-tuple-element((s32[], f32[4,8]{1,0}) %p), index=1
  ROOT %t = (s32[], /*index=1*/f32[4,8]{1,0}) tuple(%i, %x)
}

ENTRY %main.3 (a.1: bf16[8,<=16]) -> f32[] {
  %a.1 = bf16[8,<=16]{1,0:T(8,128)(2,1)} parameter(0), sharding={replicated}
  %near = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} copy(%a.1), metadata={op_name="jit(f)/copy(x)" id=3}
  %w = (s32[], f32[4,8]{1,0}) while(%a.1), condition=%c.1, body=%body, backend_config={"n":"4"}
  ROOT %sum = f32[]{:T(128)} custom-call(%near, %w), custom_call_target="f", dims={1,2}
}
"""


def test_a_module_is_its_computations():
  module = hlo.parse(TEXT)
  assert module.entry == "main.3"
  assert list(module.computations) == ["body", "main.3"]
  assert module.computations["main.3"].root == "sum"
  assert list(module.computations["body"].instructions) == ["p", "i", "x", "t"]


def test_an_instruction_is_its_arrays_operands_and_attributes():
  entry = hlo.parse(TEXT).computations["main.3"].instructions
  assert entry["a.1"].arrays == (hlo.Array((8, 16), 16, True),)
  assert entry["w"].arrays == (hlo.Array((), 32, True), hlo.Array((4, 8), 32, True))
  assert entry["w"].operands == ("a.1",)
  assert entry["w"].called("body") == "body"
  assert entry["w"].called("condition") == "c.1"
  assert entry["sum"].numbers("dims") == (1, 2)
  assert entry["sum"].attribute("index") is None


def test_operands_may_be_printed_with_their_types():
  body = hlo.parse(TEXT).computations["body"]
  assert body.instructions["x"].operands == ("p",)
  assert [user.name for user in body.users["p"]] == ["i", "x"]


def test_arrays_outside_main_memory_move_nothing_there():
  near = hlo.parse(TEXT).computations["main.3"].instructions["near"]
  assert near.bytes == 8 * 16 * 2
  assert near.traffic == 0


@pytest.mark.parametrize(
  ("text", "bits"), [("pred[2]", 8), ("f8e4m3fn[2]", 8), ("s4[2]", 4), ("c64[2]", 64)]
)
def test_element_sizes(text, bits):
  (array,) = hlo.parse_arrays(text)
  assert array.bits == bits


def test_other_text_is_refused():
  with pytest.raises(ValueError, match="no ENTRY computation"):
    hlo.parse("module @jit_f {}")
