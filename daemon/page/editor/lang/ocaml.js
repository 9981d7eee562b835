import{a as m}from"../part-ENMESB4W.js";import{va as e}from"../part-45VXAKZ5.js";var a=()=>e.define(m);export{a as default};
