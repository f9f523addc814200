const answer = await (await fetch("/api/greeting?name=reader")).json();
document.getElementById("greeting").textContent = answer.greeting;
