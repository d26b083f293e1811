import "./frames.test";
import "./bands.test";
import "./gantt.test";
import "./layout.test";
import "./pegging.test";
import "./text.test";
import "./trend.test";
