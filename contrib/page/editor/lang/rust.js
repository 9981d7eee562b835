export { rust as default } from "@codemirror/lang-rust";
