// A part that is asked for anew asks for its content, also if that came while its tab was closed.
if (props.asked) trigger("input");
watch("asked", () => trigger("input"));
