from test_hostile import *
import test_hostile
@pytest.mark.parametrize("ks", ["\rq","\r\x1b","\r\x1b\x1bq", "\r\r", "\x1bq", "\r\x11","\rqq"])
@pytest.mark.parametrize("k", range(3))
def test_x(world, ks,k):
    command = [sys.executable, "-P", "-m", "tuidl", "--runs-dir", str(world.root)]
    t = Recorder(command, {"COLORTERM": "truecolor"}, size=(120, 40))
    t.wait_for(b"Presets",0,20); t.settle()
    t.press(ks); t.settle()
    t.settle()
    rc=t.process.poll()
    txt=bytes(t.received).decode("utf-8","replace")
    err = re.findall(r"[A-Za-z]*(?:Error|NoMatches)[^\r\n]*", txt[-3000:]) if rc==1 else ""
    open("/tmp/keys.log","a").write(f"{ks!r} rc={rc} {err}\n")
    t.close()
